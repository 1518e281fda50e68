"""The distances against naive versions written out from their formulas."""

import numpy as np
import ot
import pytest
import torch

from fmiqa_utils.distances.forms import DISTANCES, channel_maps, distance, spatial_windows, window_statistics
from fmiqa_utils.errors import InputError


def tokens(seed: int, shape: tuple[int, ...] = (2, 3, 50, 16)) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def naive_published(name: str, f: np.ndarray, g: np.ndarray) -> float:
    """One pair [L, T, D] as in docs/methods.md, Distances, in float64, each distance computed separately."""
    T, D = f.shape[1:]
    t, d = round(T / 8) * 8, round(D / 8) * 8

    def columns(a: np.ndarray) -> np.ndarray:
        out = np.zeros((a.shape[0], t, d))
        out[:, : min(t, T), :] = a[:, : min(t, T)]
        return out.reshape(64, -1)

    x, y = columns(f.astype(float)), columns(g.astype(float))
    if name == "wsd":
        p, q = softmax(x, 1), softmax(y, 1)
        k = np.abs(np.cumsum(p - q, 0)[:63]).sum(0)
    else:
        p, q = softmax(x, 0) + 1e-10, softmax(y, 0) + 1e-10
        m = (p + q) / 2
        if name == "skld":
            k = 0.5 * (p * (np.log(p) - np.log(q)) + q * (np.log(q) - np.log(p))).sum(0)
        else:
            k = 0.5 * (p * (np.log(p) - np.log(m)) + q * (np.log(q) - np.log(m))).sum(0)
    if name != "jsd":
        k = k + ((x - y) ** 2).sum(0) / (np.sqrt(np.exp(-1 / (k + 10))) * (k + 10) ** 2)
    return float(np.log1p(k.mean()) ** 0.25)


def test_l2_and_cos_by_hand() -> None:
    f = torch.tensor([[[[3.0, 4.0], [1.0, 0.0]]]])  # [1, 1, 2, 2]
    g = torch.tensor([[[[4.0, 3.0], [0.0, 1.0]]]])
    l2, cos = distance("l2", f, g), distance("cos", f, g)
    assert l2.joint.item() == pytest.approx(1.0)  # (1 + 1 + 1 + 1) / 4
    assert cos.joint.item() == pytest.approx((1 - 24 / 25 + 1) / 2)
    assert l2.layers.tolist() == [[pytest.approx(1.0)]]


@pytest.mark.parametrize("name", ["skld", "jsd", "wsd"])
@pytest.mark.parametrize("T", [50, 197])  # cropped to 48, padded to 200
def test_published_forms_are_the_formula(name: str, T: int) -> None:
    f, g = tokens(1, (2, 3, T, 16)), tokens(2, (2, 3, T, 16))
    value = distance(name, f, g)
    for b in range(2):
        assert value.joint[b].item() == pytest.approx(
            naive_published(name, f[b].numpy(), g[b].numpy()), rel=1e-5
        )
        alone = naive_published(name, f[b, 1:2].numpy(), g[b, 1:2].numpy())
        assert value.layers[b, 1].item() == pytest.approx(alone, rel=1e-5)


def test_wsd_of_equal_masses_is_wasserstein() -> None:
    x, y = tokens(3, (1, 64, 5)), tokens(4, (1, 64, 5))
    p, q = x.softmax(1)[0].numpy().astype(float), y.softmax(1)[0].numpy().astype(float)
    positions = np.arange(64.0)
    k = np.array([ot.wasserstein_1d(positions, positions, p[:, j], q[:, j], p=1) for j in range(5)])
    squares = ((x - y) ** 2).sum(1)[0].numpy()
    k = k + squares / (np.sqrt(np.exp(-1 / (k + 10))) * (k + 10) ** 2)
    ours = window_statistics(["wsd"], x, y, mass_axis=1)["wsd"].item()
    assert ours == pytest.approx(np.log1p(k.mean()) ** 0.25, rel=1e-5)


def test_swd_published_is_sorted_projections_summed() -> None:
    f, g = tokens(5, (1, 1, 4, 8)), tokens(6, (1, 1, 4, 8))
    expected = (f.flatten().sort().values - g.flatten().sort().values).square().sum().item()
    assert distance("swd", f, g).joint.item() == pytest.approx(
        expected, rel=1e-5
    )  # one layer: directions are ±1


def test_corrected_windows_are_spatial() -> None:
    maps = torch.arange(2 * 9 * 8, dtype=torch.float32).view(1, 2, 9, 8)  # padded to 16 × 8
    windows = spatial_windows(maps)  # [1, 64, 4]
    assert windows.shape == (1, 64, 4)
    assert windows[0, :, 0].tolist() == maps[0, 0, :8].flatten().tolist()
    assert windows[0, :8, 3].tolist() == maps[0, 1, 8].tolist()
    assert windows[0, 8:, 3].eq(0).all()


def test_patch_tokens_go_back_on_their_grid() -> None:
    f = torch.arange(5 * 2, dtype=torch.float32).view(1, 1, 5, 2)  # one prefix token, 2 × 2 patches
    assert channel_maps(f, 1)[0][0, 0].tolist() == [[2.0, 4.0], [6.0, 8.0]]


@pytest.mark.parametrize("variant", ["published", "corrected"])
@pytest.mark.parametrize("name", DISTANCES)
def test_zero_for_equal_and_symmetric(name: str, variant: str) -> None:
    f, g = tokens(7), tokens(8)
    same = distance(name, f, f, variant, num_prefix_tokens=1)
    assert same.joint.tolist() == pytest.approx([0, 0], abs=2e-2 if name in ("skld", "jsd", "wsd") else 1e-5)
    there, back = (distance(name, a, b, variant, num_prefix_tokens=1).joint for a, b in ((f, g), (g, f)))
    assert there.tolist() == pytest.approx(back.tolist(), rel=1e-5)
    assert (there > 0).all()


@pytest.mark.parametrize("name", DISTANCES)
def test_gradients_are_finite_even_for_equal_features(name: str) -> None:
    for g in (tokens(9), tokens(10)):
        f = tokens(9).requires_grad_()
        distance(name, f, g).joint.sum().backward()
        assert f.grad.isfinite().all()


def test_batch_equals_single() -> None:
    f, g = tokens(11), tokens(12)
    for name in DISTANCES:
        both = distance(name, f, g).joint
        assert both[1].item() == pytest.approx(distance(name, f[1:], g[1:]).joint.item(), rel=1e-5)


def test_bad_words_are_named() -> None:
    with pytest.raises(InputError, match="skld"):
        distance("sklt", tokens(0), tokens(1))
    with pytest.raises(InputError, match="differ in shape"):
        distance("l2", tokens(0), tokens(1)[:, :, :40])
