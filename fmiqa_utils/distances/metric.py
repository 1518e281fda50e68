"""`FeatureDistance`: the distances as a differentiable module, the way users of LPIPS and piq expect a metric."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fmiqa_utils.backbones.catalogue import WINDOW
from fmiqa_utils.backbones.features import Features
from fmiqa_utils.backbones.load import Backbone, load_backbone
from fmiqa_utils.backbones.windows import window_boxes
from fmiqa_utils.console import UNTRAINED_NOTE
from fmiqa_utils.distances.forms import channel_maps, distances, embedding_cos
from fmiqa_utils.distances.table import map_kind
from fmiqa_utils.errors import InputError
from fmiqa_utils.summary import as_html, as_text

RANGE_SLACK = 1e-4  # resizing and quantisation may leave [0, 1] by this much


class FeatureDistance(nn.Module):
    """Distance between the features of two batches: `metric(dist, ref)`, [B, 3, H, W] in [0, 1] → [B], higher is worse.

    backbone, weights, normalize, precision: as `load_backbone`; distance: one of `fmiqa distances`, or embedding_cos;
    variant: published or corrected; layers: block indices to use, all by default. Images larger than 224 px are the
    mean over sliding windows.
    Differentiable in both arguments; the backbone is frozen. Raises InputError for a wrong range, shape, dtype or device, and for
    images under 224 px. Source: Ghildyal et al., ICASSP 2025 (arXiv 2409.07650).

    >>> import torch
    >>> metric = FeatureDistance("timm:resnet10t", weights="untrained", distance="l2")
    >>> ref = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    >>> metric(ref, ref)
    tensor([0., 0.])
    >>> bool((metric(0.9 * ref, ref) > 0).all())
    True
    """

    def __init__(
        self,
        backbone: str | Backbone = "dino_vitb16",
        *,
        distance: str = "l2",
        weights: str = "pretrained",
        variant: str = "published",
        normalize: str = "none",
        layers: Sequence[int] | None = None,
        precision: str = "fp32",
    ) -> None:
        super().__init__()
        if isinstance(backbone, str):
            backbone = load_backbone(backbone, weights, normalize=normalize, precision=precision)
        self.backbone = backbone
        self.distance, self.variant = distance, variant
        self.layers = None if layers is None else list(layers)
        self._check_choice()

    def summary(self) -> dict[str, str]:
        """What the metric computes: {name of a fact: value}."""
        b = self.backbone
        facts = {
            "backbone": f"{b.name} ({b.weights})",
            "distance": self.distance
            if self.distance == "embedding_cos"
            else f"{self.distance}, {self.variant} form",
            "layers": "all" if self.layers is None else ", ".join(map(str, self.layers)),
            "input": f"[B, 3, H, W] in [0, 1], normalize={b.normalize}, {b.precision}",
        }
        return facts | ({"warning": UNTRAINED_NOTE} if b.weights == "untrained" else {})

    def __repr__(self) -> str:
        return as_text("FeatureDistance", self.summary())

    def _repr_html_(self) -> str:
        return as_html("FeatureDistance", self.summary())

    def forward(self, dist: Tensor, ref: Tensor) -> Tensor:
        """[B, 3, H, W] in [0, 1], distorted and reference → [B]; mean over windows."""
        self._check_images(dist, ref)
        boxes = window_boxes(*ref.shape[-2:])
        values = [self._compare(*(self._features(image, box) for image in (dist, ref))) for box in boxes]
        return torch.stack(values).mean(0)

    def map(self, dist: Tensor, ref: Tensor) -> Tensor:
        """Where the distortion is visible: [B, 3, H, W] twice → [B, H, W] ≥ 0, mean over the chosen layers of the distance per position.

        Per position: mean squared difference over channels (l2), else 1 − cosine. Every pixel is covered; where windows overlap they are
        averaged.
        """
        return self.layer_maps(dist, ref).mean(1)

    def layer_maps(self, dist: Tensor, ref: Tensor) -> Tensor:
        """`map` for every chosen layer by itself: [B, L, H, W]."""
        kind = map_kind(self.distance)
        return self.maps_by_kind(dist, ref, (kind,))[kind]

    @torch.no_grad()
    def maps_by_kind(
        self, dist: Tensor, ref: Tensor, kinds: Sequence[str] = ("l2", "cos")
    ) -> dict[str, Tensor]:
        """Maps per layer, [B, L, H, W], of l2 and of the cosine distance, from one pass."""
        self._check_images(dist, ref)
        H, W = ref.shape[-2:]
        padded: dict[str, list[Tensor]] = {kind: [] for kind in kinds}
        count = ref.new_zeros(H, W)
        for top, left in window_boxes(H, W):
            f, g = (self._features(image, (top, left)) for image in (dist, ref))
            padding = (left, W - left - WINDOW, top, H - top - WINDOW)
            for kind, maps in padded.items():
                maps.append(nn.functional.pad(self._window_maps(f, g, kind), padding))
            count[top : top + WINDOW, left : left + WINDOW] += 1
        return {kind: torch.stack(maps).sum(0) / count for kind, maps in padded.items()}

    def _features(self, image: Tensor, box: tuple[int, int]) -> Features:
        top, left = box
        features = self.backbone(image[:, :, top : top + WINDOW, left : left + WINDOW])
        return features if self.layers is None else features.only(self.layers)

    def _compare(self, f: Features, g: Features) -> Tensor:
        if self.distance == "embedding_cos":
            return embedding_cos(f.embedding, g.embedding)
        value = distances(
            (self.distance,),
            f.layers,
            g.layers,
            (self.variant,),
            num_prefix_tokens=f.num_prefix_tokens,
            skip_nan=f.cos_skips_nan,
            per_layer=not isinstance(f.layers, Tensor),
        )[self.distance, self.variant]
        return value.layers.mean(1) if value.joint is None else value.joint

    def _window_maps(self, f: Features, g: Features, kind: str) -> Tensor:
        """[B, L, 224, 224] for one window: the map of each layer, enlarged to the window's size."""
        maps = []
        for x, y in zip(
            channel_maps(f.layers, f.num_prefix_tokens),
            channel_maps(g.layers, g.num_prefix_tokens),
            strict=True,
        ):
            values = (
                (x - y).square().mean(1) if kind == "l2" else 1 - nn.functional.cosine_similarity(x, y, dim=1)
            )
            maps.append(
                nn.functional.interpolate(values[:, None], size=(WINDOW, WINDOW), mode="nearest")[:, 0]
            )
        return torch.stack(maps, 1)

    def _check_choice(self) -> None:
        """Refuse an unknown distance, variant or layer before any image is seen."""
        with torch.no_grad():
            device = self.backbone.mean.device
            blank = self.backbone(torch.zeros(1, 3, WINDOW, WINDOW, device=device))
        wrong = [i for i in self.layers or [] if not 0 <= i < blank.num_layers]
        if wrong:
            raise InputError(f"{self.backbone.name} has layers 0 … {blank.num_layers - 1}, not {wrong}.")
        if self.distance != "embedding_cos":
            one = blank.only([0])
            distances(
                (self.distance,),
                one.layers,
                one.layers,
                (self.variant,),
                num_prefix_tokens=one.num_prefix_tokens,
            )

    def _check_images(self, dist: Tensor, ref: Tensor) -> None:
        for name, image in (("dist", dist), ("ref", ref)):
            if not isinstance(image, Tensor) or image.dim() != 4 or image.shape[1] != 3:
                shape = list(image.shape) if isinstance(image, Tensor) else type(image).__name__
                raise InputError(f"{name} must be a tensor [B, 3, H, W], not {shape}.")
            if not image.is_floating_point():
                raise InputError(
                    f"{name} must be floating point in [0, 1], not {image.dtype}: divide 8-bit images by 255."
                )
            if image.device != self.backbone.mean.device:
                raise InputError(
                    f"{name} is on {image.device} and the metric on {self.backbone.mean.device}: move one of them."
                )
            low, high = (float(v) for v in image.detach().aminmax())
            if not (low >= -RANGE_SLACK and high <= 1 + RANGE_SLACK):
                raise InputError(f"{name} must lie in [0, 1], but spans [{low:.3g}, {high:.3g}].")
        if dist.shape != ref.shape:
            raise InputError(f"dist and ref differ in shape: {list(dist.shape)} and {list(ref.shape)}.")
        if dist.dtype != ref.dtype:
            raise InputError(f"dist and ref differ in dtype: {dist.dtype} and {ref.dtype}.")
        if min(ref.shape[-2:]) < WINDOW:
            raise InputError(f"images must be at least {WINDOW} px on each side, not {list(ref.shape[-2:])}.")
