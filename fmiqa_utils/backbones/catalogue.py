"""The named backbones: what is known of each before it is built, without torch, timm or open_clip."""

from dataclasses import dataclass

from fmiqa_utils.errors import InputError, near

WINDOW = 224  # px, the input of every backbone and the least side of an image
NORMALIZE = ("none", "model")
PRECISIONS = ("fp32", "bf16", "fp16")
SMALL_IMAGES = ("error", "resize", "pad")  # what happens to an image under `WINDOW`
WEIGHTS = ("pretrained", "untrained", "auto")  # or a state-dict file

Moments = tuple[float, float, float]  # of R, G and B, for values in [0, 1]


@dataclass(frozen=True, kw_only=True)
class BackboneInfo:
    """What is known of a backbone before it is built; for a model outside `BACKBONES` only where it comes from."""

    name: str
    source: str  # "timm" or "openclip"
    model: str  # the model's name there
    tag: str = ""  # open_clip's name for the pretrained weights
    hub: str = ""  # repository of the pretrained weights; "": its library knows
    family: str = "other"  # for colours
    licence: str = "see the model's page"
    layers: int = 0
    width: str = ""
    parameters_m: float = 0.0  # millions, of the image tower
    download_mb: int = 0  # download from the hub
    mean: Moments | None = None  # used in training; None: its library knows
    std: Moments | None = None


IMAGENET: tuple[Moments, Moments] = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
INCEPTION: tuple[Moments, Moments] = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
OPENAI: tuple[Moments, Moments] = (
    (0.48145466, 0.4578275, 0.40821073),
    (0.26862954, 0.26130258, 0.27577711),
)

_ALL = (
    BackboneInfo(
        name="dino_vits16",
        source="timm",
        model="vit_small_patch16_224.dino",
        hub="timm/vit_small_patch16_224.dino",
        family="dino",
        licence="Apache-2.0",
        layers=12,
        width="384",
        parameters_m=21.7,
        download_mb=87,
        mean=IMAGENET[0],
        std=IMAGENET[1],
    ),
    BackboneInfo(
        name="dino_vitb16",
        source="timm",
        model="vit_base_patch16_224.dino",
        hub="timm/vit_base_patch16_224.dino",
        family="dino",
        licence="Apache-2.0",
        layers=12,
        width="768",
        parameters_m=85.8,
        download_mb=343,
        mean=IMAGENET[0],
        std=IMAGENET[1],
    ),
    BackboneInfo(
        name="dinov2_vits14",
        source="timm",
        model="vit_small_patch14_dinov2.lvd142m",
        hub="timm/vit_small_patch14_dinov2.lvd142m",
        family="dinov2",
        licence="Apache-2.0",
        layers=12,
        width="384",
        parameters_m=21.6,
        download_mb=88,
        mean=IMAGENET[0],
        std=IMAGENET[1],
    ),
    BackboneInfo(
        name="dinov2_vitb14",
        source="timm",
        model="vit_base_patch14_dinov2.lvd142m",
        hub="timm/vit_base_patch14_dinov2.lvd142m",
        family="dinov2",
        licence="Apache-2.0",
        layers=12,
        width="768",
        parameters_m=85.7,
        download_mb=346,
        mean=IMAGENET[0],
        std=IMAGENET[1],
    ),
    BackboneInfo(
        name="clip_vitb32",
        source="openclip",
        model="ViT-B-32-quickgelu",
        tag="openai",
        hub="timm/vit_base_patch32_clip_224.openai",
        family="clip",
        licence="MIT",
        layers=12,
        width="768",
        parameters_m=87.8,
        download_mb=605,
        mean=OPENAI[0],
        std=OPENAI[1],
    ),
    BackboneInfo(
        name="clip_rn50",
        source="openclip",
        model="RN50",
        tag="openai",
        hub="timm/resnet50_clip.openai",
        family="clip",
        licence="MIT",
        layers=5,
        width="64…2048",
        parameters_m=38.3,
        download_mb=408,
        mean=OPENAI[0],
        std=OPENAI[1],
    ),
    BackboneInfo(
        name="openclip_convnext_base_w",
        source="openclip",
        model="convnext_base_w",
        tag="laion2b_s13b_b82k",
        hub="laion/CLIP-convnext_base_w-laion2B-s13B-b82K",
        family="convnext",
        licence="MIT",
        layers=36,
        width="128…1024",
        parameters_m=88.2,
        download_mb=718,
        mean=OPENAI[0],
        std=OPENAI[1],
    ),
    BackboneInfo(
        name="imagenet_vitb16",
        source="timm",
        model="vit_base_patch16_224.augreg2_in21k_ft_in1k",
        hub="timm/vit_base_patch16_224.augreg2_in21k_ft_in1k",
        family="imagenet",
        licence="Apache-2.0",
        layers=12,
        width="768",
        parameters_m=85.8,
        download_mb=346,
        mean=INCEPTION[0],
        std=INCEPTION[1],
    ),
)
BACKBONES: dict[str, BackboneInfo] = {b.name: b for b in _ALL}
OTHERS = ("timm:NAME", "openclip:NAME")  # how to name any other model


def refuse_unknown(name: str) -> None:
    """Raises InputError with near matches unless `name` is in `BACKBONES` or reads timm:NAME or openclip:NAME.

    Whether timm or open_clip knows NAME is checked later (`load.backbone_info`).
    """
    library, _, model = name.partition(":")
    if name not in BACKBONES and (library not in ("timm", "openclip") or not model):
        raise InputError(f"there is no backbone called {name!r}; {near(name, [*BACKBONES, *OTHERS])}")


def family_of(model: str) -> str:
    """Colour family of a model by its name."""
    lowered = model.lower()
    for family, marks in {
        "dinov2": ("dinov2",),
        "dinov3": ("dinov3",),
        "dino": (".dino",),
        "convnext": ("convnext",),
        "clip": ("clip", "vit-", "rn50"),
        "imagenet": ("augreg", "in21k", "in1k"),
    }.items():
        if any(mark in lowered for mark in marks):
            return family
    return "other"
