"""Named vision foundation models with their weights and preprocessing: a name goes in, a frozen `Backbone` comes out."""

import logging
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from fmiqa_utils.backbones.catalogue import (
    BACKBONES,
    NORMALIZE,
    PRECISIONS,
    WINDOW,
    BackboneInfo,
    family_of,
    refuse_unknown,
)
from fmiqa_utils.backbones.features import Features, reader_for
from fmiqa_utils.backbones.hub import resolve_weights
from fmiqa_utils.backbones.weights import adopt_weights, stand_in_weights, state_sha256
from fmiqa_utils.errors import InputError, near

DTYPES = dict(zip(PRECISIONS, (torch.float32, torch.bfloat16, torch.float16), strict=True))


class Backbone(nn.Module):
    """A frozen model in eval mode that turns [B, 3, 224, 224] in [0, 1] into `Features`.

    `weights` is the label that goes into every row; `weights_sha256` the hash of all parameters and buffers.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        info: BackboneInfo,
        model: nn.Module,
        *,
        weights: str,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        normalize: str = "none",
        precision: str = "fp32",
    ) -> None:
        super().__init__()
        if normalize not in NORMALIZE:
            raise InputError(f"normalize={normalize!r} is unknown; {near(normalize, NORMALIZE)}")
        if precision not in PRECISIONS:
            raise InputError(f"precision={precision!r} is unknown; {near(precision, PRECISIONS)}")
        self.info, self.name, self.weights = info, info.name, weights
        self.normalize, self.precision = normalize, precision
        self.model = model.eval().requires_grad_(False)
        self.read: Callable[[nn.Module, Tensor], Features] = reader_for(model)
        self.weights_sha256 = state_sha256(model)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def train(self, mode: bool = True) -> "Backbone":  # noqa: ARG002  # torch calls it by this name
        """Stays in eval mode: stochastic depth or moving statistics would change the numbers."""
        return super().train(False)

    def forward(self, windows: Tensor) -> Features:
        """[B, 3, 224, 224] float in [0, 1] → features of all layers and the embedding, from one pass."""
        x = (windows - self.mean) / self.std if self.normalize == "model" else windows
        with self._precision():
            return self.read(self.model, x)

    def bare(self, windows: Tensor) -> Tensor:
        """The model's forward pass without reading features: what `fmiqa bench` compares with."""
        with self._precision():
            return self.model(windows)

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.mean.device.type, DTYPES[self.precision], enabled=self.precision != "fp32")


def backbone_info(name: str) -> BackboneInfo:
    """The entry called `name`; `timm:NAME` and `openclip:NAME[/TAG]` name any other model.

    Raises InputError with near matches for an unknown name.
    """
    if name in BACKBONES:
        return BACKBONES[name]
    refuse_unknown(name)
    source, _, rest = name.partition(":")
    family = family_of(rest)
    if source == "timm":
        model, licence = _known_timm(rest), _timm_licence(rest)
        return BackboneInfo(name=name, source=source, model=model, family=family, licence=licence)
    model, _, tag = rest.partition("/")
    return BackboneInfo(name=name, source=source, model=_known_openclip(model), tag=tag, family=family)


def load_backbone(
    name: str,
    weights: str = "pretrained",
    *,
    normalize: str = "none",
    precision: str = "fp32",
    device: str | torch.device = "cpu",
) -> Backbone:
    """Build backbone `name` with `weights`: "pretrained", "untrained", "auto" or a state-dict file.

    Raises InputError for an unknown name, a file that does not fit (its message names the keys), and a hub out of reach.
    """
    info = backbone_info(name)
    weights = resolve_weights(weights, hub_id(info))
    model, mean, std = _build(info, pretrained=weights == "pretrained")
    label = weights
    if weights == "untrained":
        stand_in_weights(model)
    elif weights != "pretrained":
        label = adopt_weights(model, weights)
    return Backbone(
        info, model, weights=label, mean=mean, std=std, normalize=normalize, precision=precision
    ).to(device)


@cache
def window_flops(info: BackboneInfo) -> int:
    """Floating-point operations of one window's forward, counted on a meta model, which takes no memory and computes nothing."""
    with torch.device("meta"), torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model, _, _ = _build(info, pretrained=False)
        model.eval()(torch.empty(1, 3, WINDOW, WINDOW))
    return int(counter.get_total_flops())


def hub_id(info: BackboneInfo) -> str:
    """The repository of the pretrained weights on the hub, "" where there is none."""
    return info.hub or library_hub_id(info)


def library_hub_id(info: BackboneInfo) -> str:
    """The repository that timm or open_clip names for the pretrained weights, "" if it names none."""
    if info.source == "timm":
        import timm

        cfg = timm.get_pretrained_cfg(info.model)
        return (cfg.hf_hub_id if cfg else None) or ""
    import open_clip

    return (open_clip.get_pretrained_cfg(info.model, info.tag) or {}).get("hf_hub", "").strip("/")


def normalization(info: BackboneInfo) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std per channel, of values in [0, 1], that the model was trained with; what `normalize="model"` applies."""
    if info.mean and info.std:
        return info.mean, info.std
    if info.source == "timm":
        import timm

        pretrained = timm.get_pretrained_cfg(info.model)
        if pretrained is None:
            return timm.data.IMAGENET_DEFAULT_MEAN, timm.data.IMAGENET_DEFAULT_STD
        return pretrained.mean, pretrained.std
    import open_clip

    cfg = open_clip.get_pretrained_cfg(info.model, info.tag) or {}
    return cfg.get("mean", open_clip.OPENAI_DATASET_MEAN), cfg.get("std", open_clip.OPENAI_DATASET_STD)


def _build(info: BackboneInfo, pretrained: bool) -> tuple[nn.Module, tuple[float, ...], tuple[float, ...]]:
    """The image tower, its mean and std; parameters are random unless `pretrained`."""
    build = _build_timm if info.source == "timm" else _build_openclip
    try:
        return build(info, pretrained)
    except OSError as error:
        raise InputError(
            f"the pretrained weights of {info.name} could not be fetched ({type(error).__name__}): give a state-dict "
            f"file with --weights FILE, or --weights untrained for a stand-in"
        ) from error


def _build_timm(
    info: BackboneInfo, pretrained: bool
) -> tuple[nn.Module, tuple[float, ...], tuple[float, ...]]:
    import timm

    cfg = timm.get_pretrained_cfg(info.model)
    resized: dict[str, Any] = (
        {"img_size": WINDOW} if cfg and cfg.fixed_input_size and cfg.input_size[-1] != WINDOW else {}
    )
    model: Any = timm.create_model(info.model, pretrained=pretrained, num_classes=0, **resized)
    if not hasattr(model, "forward_intermediates"):
        raise InputError(
            f"timm:{info.model} has no forward_intermediates, so its layers cannot be read: name another."
        )
    return model, model.pretrained_cfg["mean"], model.pretrained_cfg["std"]


def _build_openclip(
    info: BackboneInfo, pretrained: bool
) -> tuple[nn.Module, tuple[float, ...], tuple[float, ...]]:
    import open_clip

    if pretrained and not info.tag:
        tags = open_clip.list_pretrained_tags_by_model(info.model)
        raise InputError(
            f"{info.name} names no pretrained weights: write openclip:{info.model}/TAG with one of {tags}."
        )
    logging.getLogger().addFilter(_no_random_warning)
    try:
        size = {} if info.name in BACKBONES else {"force_image_size": WINDOW}
        clip = open_clip.create_model(
            info.model,
            pretrained=info.tag if pretrained else None,
            device=torch.get_default_device(),
            **size,
        )
    finally:
        logging.getLogger().removeFilter(_no_random_warning)
    return clip.visual, tuple(clip.visual.image_mean), tuple(clip.visual.image_std)


def _no_random_warning(record: logging.LogRecord) -> bool:
    """open_clip warns of random weights; they are replaced right after, and every label says so."""
    return "No pretrained weights loaded" not in record.getMessage()


def _known_timm(model: str) -> str:
    import timm

    if not timm.is_model(model.partition(".")[0]):
        raise InputError(f"timm has no model called {model!r}; {near(model, timm.list_models())[:300]}")
    return model


def _timm_licence(model: str) -> str:
    """The licence that timm states for the weights. Raises InputError for weights that timm does not know."""
    from timm.models import get_pretrained_cfg, list_models

    try:
        config = get_pretrained_cfg(model)
    except RuntimeError as error:
        known = list_models(f"{model.partition('.')[0]}.*", pretrained=True)
        raise InputError(f"timm has no weights called {model!r}; {near(model, known)}") from error
    return (config.license if config else None) or BackboneInfo.licence


def _known_openclip(model: str) -> str:
    import open_clip

    if model not in open_clip.list_models():
        raise InputError(
            f"open_clip has no model called {model!r}; {near(model, open_clip.list_models())[:300]}"
        )
    return model
