"""The statistics in place against the differentiable ones and against float64; their speed, for pytest-benchmark."""

import pytest
import torch

from fmiqa_utils.distances import kernels
from fmiqa_utils.distances.forms import Padding, distances, pad_to_eight
from fmiqa_utils.distances.kernels import (
    in_place,
    l2_weight,
    quarter_root_log,
    shift,
    step_by_step,
    window_statistics,
)

NAMES = ("skld", "jsd", "wsd")


def samples(scale: float, apart: float = 1.0, shape: tuple[int, ...] = (2, 64, 700)) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    x = scale * torch.randn(shape, generator=g)
    return [x, x + apart * torch.randn(shape, generator=g)]


def sums(blocks) -> dict[str, torch.Tensor]:  # type: ignore[no-untyped-def]
    """The sums of every k and of the squares over all columns of two groups."""
    total = {n: torch.zeros(2) for n in (*NAMES, "squares")}
    for groups, (k, squares) in blocks:
        for n in NAMES:
            total[n][groups] += k[n].sum(1)
        total["squares"][groups] += squares.sum(1)
    return total


@pytest.mark.parametrize("by_rows", [True, False])
@pytest.mark.parametrize(("scale", "offset"), [(1, 0), (5, 0), (20, 0), (5, 100), (8, -90)])
def test_in_place_is_step_by_step(
    scale: float, offset: float, by_rows: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(kernels.COLUMNS, "cpu", 256)  # several blocks
    x, y = (t.clamp(-70, 70) + offset for t in samples(scale))
    shifts = shift(x), shift(y)
    assert None not in shifts
    assert (shifts[0] != 0) == (offset != 0)
    ours, written = sums(in_place(NAMES, x, y, by_rows, shifts)), sums(step_by_step(NAMES, x, y, by_rows))
    for n, value in written.items():
        torch.testing.assert_close(ours[n], value, rtol=5e-5, atol=0)


@pytest.mark.parametrize(("apart", "tolerance"), [(1e-3, 5e-3), (1e-2, 1e-4), (1, 1e-6)])
def test_nearly_equal_inputs_keep_their_digits(apart: float, tolerance: float) -> None:
    x, y = samples(3, apart, (1, 64, 5000))
    p, q = (t.double().softmax(1) + kernels.FLOOR for t in (x, y))
    m = (p + q) / 2
    k = 0.5 * (p * (p / m).log() + q * (q / m).log()).sum(1)
    exact = quarter_root_log(k.mean(1)).float()
    torch.testing.assert_close(window_statistics(["jsd"], x, y, 1)["jsd"], exact, rtol=tolerance, atol=0)


def test_equal_inputs_give_exactly_zero() -> None:
    x, _ = samples(4)
    for axis in (1, 2):
        for value in window_statistics(NAMES, x, x.clone(), axis).values():
            assert value.tolist() == [0, 0]


def test_values_too_far_apart_are_done_step_by_step() -> None:
    x, y = samples(200)
    assert shift(x) is None
    p, q = (t.double().softmax(1) + kernels.FLOOR for t in (x, y))
    k = 0.5 * ((p - q) * (p / q).log()).sum(1)
    k = k + (x - y).double().square().sum(1) * l2_weight(k)
    expected = quarter_root_log(k.mean(1)).float()
    torch.testing.assert_close(window_statistics(["skld"], x, y, 1)["skld"], expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("names", [("skld",), ("jsd",), ("wsd",)])
def test_alone_or_together_is_the_same(names: tuple[str, ...]) -> None:
    x, y = samples(2)
    together = window_statistics(NAMES, x, y, 2)
    for n, value in window_statistics(names, x, y, 2).items():
        assert value.tolist() == together[n].tolist()


@pytest.mark.parametrize("variant", ["published", "corrected"])
def test_with_and_without_gradients_are_the_same(variant: str) -> None:
    f, g = samples(2, shape=(3, 2, 50, 16))
    names = ("l2", "cos", *NAMES, "swd")
    fast = distances(names, f, g, (variant,), num_prefix_tokens=1)
    slow = distances(names, f.clone().requires_grad_(), g, (variant,), num_prefix_tokens=1)
    assert fast.keys() == slow.keys()
    for key, value in slow.items():
        assert value.joint is not None
        assert value.joint.requires_grad
        torch.testing.assert_close(fast[key].joint, value.joint.detach(), rtol=5e-5, atol=1e-6)
        torch.testing.assert_close(fast[key].layers, value.layers.detach(), rtol=5e-5, atol=1e-6)


@pytest.mark.parametrize("inference", [True, False])
def test_threads_share_the_windows_and_change_nothing(inference: bool) -> None:
    f, g = samples(2, shape=(5, 2, 65, 16))
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 8):
            torch.set_num_threads(threads)
            with torch.inference_mode(inference):
                found.append(
                    distances(("l2", "cos", *NAMES), f, g, ("published", "corrected"), num_prefix_tokens=1)
                )
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for key, value in found[0].items():
        for other in found[1:]:
            assert value.layers.tolist() == other[key].layers.tolist()
            assert value.joint is not None
            assert value.joint.tolist() == other[key].joint.tolist()


@pytest.mark.parametrize("T", [48, 50, 197])
@pytest.mark.parametrize("D", [13, 16, 17])
def test_padding_again_and_again_is_padding(T: int, D: int) -> None:
    pad = Padding()
    for B in (1, 1, 2, 1):
        x = torch.randn(B, 2, T, D)
        kept = x.clone()
        assert torch.equal(pad(x), pad_to_eight(x))
        pad(torch.full_like(x, 7))
        assert torch.equal(x, kept)  # the input is never written to


@pytest.mark.parametrize("way", ["in_place", "step_by_step"])
@pytest.mark.parametrize("by_rows", [True, False])
def test_speed(benchmark, way: str, by_rows: bool) -> None:  # type: ignore[no-untyped-def]
    x, y = samples(3, shape=(1, 64, 28_800))  # one window of ViT-B/16, all layers
    shifts = ((0.0, 0.0),) if way == "in_place" else ()
    work = getattr(kernels, way)
    blocks = benchmark.pedantic(lambda: list(work(NAMES, x, y, by_rows, *shifts)), rounds=5, warmup_rounds=1)
    assert sum(k["wsd"].numel() for _, (k, _) in blocks) == 28_800
