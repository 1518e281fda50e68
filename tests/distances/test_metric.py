"""FeatureDistance as a metric, as a loss and as a map."""

import numpy as np
import pytest
import torch
from PIL import Image

from fmiqa_utils import FeatureDistance
from fmiqa_utils.backbones.load import Backbone
from fmiqa_utils.errors import InputError
from fmiqa_utils.extraction.scorer import Scorer, Settings
from fmiqa_utils.extraction.single import score_files

TINY = "timm:vit_tiny_patch16_224"


def images(height: int = 224, width: int = 224, batch: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """8-bit values in [0, 1]: a reference and the same with noise."""
    g = torch.Generator().manual_seed(0)
    ref = torch.randint(0, 256, (batch, 3, height, width), generator=g).float()
    noise = 20 * torch.randn(ref.shape, generator=g)
    return (ref + noise).round().clamp(0, 255) / 255, ref / 255


@pytest.mark.parametrize("distance", ["l2", "cos", "skld", "jsd", "wsd", "swd", "embedding_cos"])
def test_it_gives_the_number_of_fmiqa_score(tiny: Backbone, distance: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    dist, ref = images(230, 300, batch=1)
    for name, image in (("dist", dist), ("ref", ref)):
        Image.fromarray((image[0].permute(1, 2, 0) * 255).round().byte().numpy()).save(
            tmp_path / f"{name}.png"
        )
    wanted = next(
        iter(
            score_files(
                [(tmp_path / "ref.png", tmp_path / "dist.png")],
                Scorer(tiny, Settings(("l2", "cos", "skld", "jsd", "wsd", "swd"))),
            )
        )
    )
    value = wanted["embedding_cos"] if distance == "embedding_cos" else wanted["score"][distance]  # type: ignore[index]
    with torch.no_grad():
        ours = FeatureDistance(tiny, distance=distance)(dist, ref)
    assert ours.shape == (1,)
    assert ours.item() == pytest.approx(value, rel=2e-4)


def test_batches_are_independent_and_layers_add_up(tiny: Backbone) -> None:
    dist, ref = images()
    with torch.no_grad():
        both = FeatureDistance(tiny, distance="l2")(dist, ref)
        alone = torch.cat(
            [FeatureDistance(tiny, distance="l2")(dist[i : i + 1], ref[i : i + 1]) for i in (0, 1)]
        )
        parts = [FeatureDistance(tiny, distance="l2", layers=[i])(dist, ref) for i in range(12)]
    torch.testing.assert_close(both, alone, rtol=1e-4, atol=0)
    torch.testing.assert_close(torch.stack(parts).sum(0), both, rtol=1e-5, atol=0)


@pytest.mark.parametrize("distance", ["l2", "cos", "skld", "jsd", "wsd"])
@pytest.mark.parametrize("variant", ["published", "corrected"])
def test_a_step_against_the_gradient_comes_nearer(tiny: Backbone, distance: str, variant: str) -> None:
    dist, ref = images(batch=1)
    metric = FeatureDistance(tiny, distance=distance, variant=variant)
    dist.requires_grad_(True)
    before = metric(dist, ref)
    before.sum().backward()
    assert dist.grad is not None
    assert torch.isfinite(dist.grad).all()
    with torch.no_grad():
        nearer = (dist - 1e-3 * dist.grad / dist.grad.abs().max()).clamp(0, 1)
        assert metric(nearer, ref).item() < before.item()
    assert all(p.grad is None and not p.requires_grad for p in metric.parameters())


def test_equal_images_have_no_distance_and_a_finite_gradient(tiny: Backbone) -> None:
    _, ref = images(batch=1)
    for distance in ("l2", "cos", "jsd", "embedding_cos"):
        dist = ref.clone().requires_grad_(True)
        value = FeatureDistance(tiny, distance=distance)(dist, ref)
        value.sum().backward()
        assert value.item() < 0.05
        assert dist.grad is not None
        assert torch.isfinite(dist.grad).all()


@pytest.mark.parametrize("distance", ["l2", "cos"])
def test_the_map_is_bright_where_the_image_is_distorted(tiny: Backbone, distance: str) -> None:
    _, ref = images(300, 420, batch=1)
    dist = ref.clone()
    dist[:, :, :100, 320:] = 0
    found = FeatureDistance(tiny, distance=distance, layers=[0]).map(dist, ref)
    assert found.shape == (1, 300, 420)
    assert torch.isfinite(found).all()
    assert (found >= -1e-6).all()
    corner, elsewhere = found[0, :80, 340:].mean(), found[0, 130:, :300].mean()
    assert corner > 5 * elsewhere


def test_overlapping_windows_are_averaged(tiny: Backbone) -> None:
    dist, ref = images(224, 300, batch=1)
    metric = FeatureDistance(tiny, distance="l2")
    whole = metric.map(dist, ref)
    left, right = (metric.map(dist[..., a : a + 224], ref[..., a : a + 224]) for a in (0, 76))
    torch.testing.assert_close(whole[..., :76], left[..., :76])
    torch.testing.assert_close(whole[..., 224:], right[..., 148:])
    torch.testing.assert_close(whole[..., 76:224], (left[..., 76:] + right[..., :148]) / 2)
    mean_of_map = (
        left.mean().item()
    )  # l2 weighs every patch alike, so its map averages to the mean over layers
    tokens = [metric.backbone(x[..., :224]).layers[:, :, 1:] for x in (dist, ref)]  # type: ignore[index]
    assert mean_of_map == pytest.approx((tokens[0] - tokens[1]).square().mean().item(), rel=1e-4)


def test_mistakes_are_named(tiny: Backbone) -> None:
    metric = FeatureDistance(tiny)
    dist, ref = images()
    wrong = [
        ((dist * 255, ref), r"dist must lie in \[0, 1\]"),
        ((dist - 0.5, ref), r"dist must lie in \[0, 1\]"),
        ((dist[0], ref), r"dist must be a tensor \[B, 3, H, W\]"),
        ((dist, ref[:1]), "differ in shape"),
        ((dist, ref.double()), "differ in dtype"),
        (((dist * 255).byte(), ref), "floating point"),
        ((dist[..., :100], ref[..., :100]), "at least 224 px"),
        ((dist.to("meta"), ref), "is on meta and the metric on cpu"),
        ((np.zeros((2, 3, 224, 224)), ref), "dist must be a tensor"),
        ((torch.full_like(dist, torch.nan), ref), "must lie in"),
    ]
    for (a, b), said in wrong:
        with pytest.raises(InputError, match=said):
            metric(a, b)
    with pytest.raises(InputError, match=r"layers 0 … 11, not \[12\]"):
        FeatureDistance(tiny, layers=[12])
    with pytest.raises(InputError, match="did you mean"):
        FeatureDistance(tiny, distance="cosine")
