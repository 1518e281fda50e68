"""What "auto" means: which backbone, which weights and which transforms a dataset is scored with unless they are named."""

from collections.abc import Sequence

from fmiqa_utils.backbones.catalogue import BACKBONES
from fmiqa_utils.backbones.hub import resolve_weights
from fmiqa_utils.datasets.transforms import chosen_transforms
from fmiqa_utils.words import split_names

BEST_SMALL = "dino_vits16"  # with pretrained weights
SMALL = "timm:vit_tiny_patch16_224"  # without the hub
DEMO_TRANSFORMS = ["none", "tra-1", "tra-3", "sca-1", "sca-3", "rot-1", "rot-3"]
# As published; with untrained weights the larger amounts would add nothing.
DEMO_TRANSFORMS_UNTRAINED = ["none", "tra-1", "sca-1", "rot-1"]
DEMO_TRANSFORMED = 120  # pairs of the demo dataset: enough for a curve, few enough for a laptop


def choose(backbone: str, weights: str, dataset: str) -> list[tuple[str, str]]:
    """(backbone, weights) with every "auto" decided.

    backbone "auto": dino_vits16 with pretrained weights if the hub or its cache answers within seconds, otherwise a small untrained ViT.
    weights "auto": on the demo dataset pretrained if they are in reach, otherwise untrained; on any other dataset pretrained.
    """
    wanted = "pretrained" if weights == "auto" and dataset != "demo" else weights
    return [_chosen(name, wanted, dataset) for name in split_names(backbone)]


def _chosen(name: str, weights: str, dataset: str) -> tuple[str, str]:
    """One backbone with its weights; timm is imported only for models that are not in `BACKBONES`."""
    if name == "auto":
        resolved = resolve_weights(weights, BACKBONES[BEST_SMALL].hub)
        return (SMALL, resolved) if resolved == "untrained" and dataset == "demo" else (BEST_SMALL, resolved)
    if name in BACKBONES:
        return name, resolve_weights(weights, BACKBONES[name].hub)
    from fmiqa_utils.backbones.load import backbone_info, hub_id

    return name, resolve_weights(weights, hub_id(backbone_info(name)))


def choose_transforms(
    transforms: str, transform_pairs: int, dataset: str, chosen: Sequence[tuple[str, str]] = ()
) -> tuple[list[str], int]:
    """Comma-separated transforms, and how many pairs to transform; "auto": two amounts of each on the demo dataset, none elsewhere.

    Where none of the `chosen` (backbone, weights) is trained, one amount of each: untrained weights only show how it works.
    """
    if transforms != "auto":
        return list(chosen_transforms(transforms)), transform_pairs
    if dataset != "demo":
        return ["none"], 0
    untrained = bool(chosen) and all(weights == "untrained" for _, weights in chosen)
    return DEMO_TRANSFORMS_UNTRAINED if untrained else DEMO_TRANSFORMS, transform_pairs or DEMO_TRANSFORMED
