"""The classic metrics: values by hand, and what happens without the optional library or its weights."""

import importlib.util
import sys
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest

from fmiqa_utils.distances import baselines
from fmiqa_utils.distances.baselines import baseline_values, choose_baselines, psnr, ssim
from fmiqa_utils.distances.table import BASELINES, orientation
from fmiqa_utils.errors import InputError

needs_pyiqa = pytest.mark.skipif(
    importlib.util.find_spec("pyiqa") is None, reason="the extra `baselines` (pyiqa) is not installed"
)


def images() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    ref = np.kron(rng.integers(0, 256, (12, 12, 3)), np.ones((20, 20, 1))).astype(np.uint8)
    return ref, np.clip(ref + rng.normal(0, 12, ref.shape), 0, 255).round().astype(np.uint8)


def test_psnr_by_hand() -> None:
    black = np.zeros((224, 224, 3), np.uint8)
    one = black.copy()
    one[..., 0] = 3  # MSE 9 / 3
    assert psnr(black, one) == pytest.approx(10 * np.log10(255**2 / 3))
    assert psnr(one, one) == 100
    assert psnr(black, black + 255) == 0


def test_ssim_of_a_constant_shift_by_hand() -> None:
    dark, light = np.full((64, 64, 3), 100, np.uint8), np.full((64, 64, 3), 110, np.uint8)
    c1 = (0.01 * 255) ** 2  # without structure only the luminance term is left
    assert ssim(dark, light) == pytest.approx((2 * 100 * 110 + c1) / (100**2 + 110**2 + c1), rel=1e-6)
    assert ssim(dark, dark) == pytest.approx(1)


def test_values_come_in_the_order_of_the_names() -> None:
    ref, dist = images()
    assert baseline_values(ref, dist, ("ssim", "psnr")).tolist() == [ssim(ref, dist), psnr(ref, dist)]


def test_the_sign_of_every_baseline_is_known() -> None:
    known = {n: orientation(n) for n in BASELINES}
    assert known == {"psnr": 1, "ssim": 1, "ms_ssim": 1, "fsim": 1, "lpips": -1, "dists": -1}


@needs_pyiqa
def test_ms_ssim_and_fsim_fall_with_noise_and_are_one_for_equal_images() -> None:
    ref, dist = images()
    worse = np.clip(dist + 20 * np.random.default_rng(1).normal(size=ref.shape), 0, 255).astype(np.uint8)
    names = choose_baselines("ms_ssim,fsim")
    assert names == ("psnr", "ssim", "ms_ssim", "fsim")
    same, near_, far = (baseline_values(ref, image, names)[2:] for image in (ref, dist, worse))
    np.testing.assert_allclose(same, 1, atol=1e-4)
    assert (near_ < same).all()
    assert (far < near_).all()


@needs_pyiqa
def test_ms_ssim_of_a_constant_shift_by_hand() -> None:
    """Without structure only the luminance term of the coarsest scale is left, with its weight of Wang et al., 2003."""
    dark, light = np.full((224, 224, 3), 100, np.uint8), np.full((224, 224, 3), 110, np.uint8)
    c1 = (0.01 * 255) ** 2
    luminance = (2 * 100 * 110 + c1) / (100**2 + 110**2 + c1)
    value = baseline_values(dark, light, ("ms_ssim",))
    assert value.tolist() == pytest.approx([luminance**0.1333], rel=1e-3)


@needs_pyiqa
def test_a_network_whose_weights_are_out_of_reach_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))  # nothing is cached
    monkeypatch.setattr("torch.hub.download_url_to_file", no_network)
    for name in ("lpips", "dists"):
        said = f"the weights of the baseline {name} could not be fetched .*no route to host.*: leave it out"
        with pytest.raises(InputError, match=said):
            choose_baselines(name)


@needs_pyiqa
def test_pyiqas_psnr_is_ours() -> None:
    ref, dist = images()
    assert baselines._through_pyiqa("psnr", ref, dist) == pytest.approx(psnr(ref, dist), rel=1e-5)


def test_without_the_library_or_its_weights_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Offline:
        @staticmethod
        def create_metric(*_: object, **__: object) -> None:
            raise OSError("no route to host")

    for module, said in ((None, "fmiqa\\[baselines\\]"), (Offline, "no route to host.*leave it out")):
        baselines._pyiqa_metric.cache_clear()
        monkeypatch.setitem(sys.modules, "pyiqa", module)
        with pytest.raises(InputError, match=said):
            choose_baselines("lpips")
    baselines._pyiqa_metric.cache_clear()
    with pytest.raises(InputError, match="did you mean"):
        choose_baselines("msssim")
