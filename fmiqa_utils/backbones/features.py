"""What one forward pass gives: the features of every layer and the embedding, per kind of model."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fmiqa_utils.errors import InputError


@dataclass(frozen=True)
class Features:
    """Features of B windows, fp32.

    layers: tokens [B, L, T, D], or L maps [B, C, H, W], of different sizes or not; embedding: [B, T, D] or [B, E].
    """

    layers: Tensor | list[Tensor]
    embedding: Tensor
    num_prefix_tokens: int = 0
    cos_skips_nan: bool = False  # CLIP RN50's published cosine (docs/methods.md, cos)

    @property
    def num_layers(self) -> int:
        """The number of layers, L."""
        return self.layers.shape[1] if isinstance(self.layers, Tensor) else len(self.layers)

    def take(self, index: Tensor) -> "Features":
        """The windows at `index` [N]."""
        if isinstance(self.layers, Tensor):
            layers: Tensor | list[Tensor] = self.layers[index]
        else:
            layers = [layer[index] for layer in self.layers]
        return Features(layers, self.embedding[index], self.num_prefix_tokens, self.cos_skips_nan)

    def only(self, layers: list[int]) -> "Features":
        """The same windows with the given layers only."""
        kept = self.layers[:, layers] if isinstance(self.layers, Tensor) else [self.layers[i] for i in layers]
        return Features(kept, self.embedding, self.num_prefix_tokens, self.cos_skips_nan)


def concatenate(parts: list[Features]) -> Features:
    """The windows of all `parts`, in order."""
    first = parts[0]
    if isinstance(first.layers, Tensor):
        layers: Tensor | list[Tensor] = torch.cat([p.layers for p in parts])  # type: ignore[misc]
    else:
        layers = [torch.cat(maps) for maps in zip(*(p.layers for p in parts), strict=True)]
    embedding = torch.cat([p.embedding for p in parts])
    return Features(layers, embedding, first.num_prefix_tokens, first.cos_skips_nan)


def reader_for(model: nn.Module) -> Callable[[nn.Module, Tensor], Features]:
    """The function that reads the features of a model of this kind.

    Raises InputError if the layers of the model cannot be read.
    """
    kind = type(model).__name__
    if type(model).__module__.startswith("open_clip"):
        if kind == "TimmModel":
            return read_trunk_blocks
        if kind in ("ModifiedResNet", "VisionTransformer"):
            return read_clip_resnet if kind == "ModifiedResNet" else read_clip_tokens
        raise InputError(
            f"the layers of open_clip's image tower {kind} cannot be read here: name another model."
        )
    parameters = inspect.signature(model.forward_intermediates).parameters  # type: ignore[arg-type]
    return read_timm_tokens if "return_prefix_tokens" in parameters else read_timm_maps


def read_timm_tokens(model: nn.Module, x: Tensor) -> Features:
    """A plain ViT: every block's residual stream with all tokens; embedding: all tokens after the final norm."""
    final, layers = model.forward_intermediates(  # type: ignore[operator]
        x, norm=False, output_fmt="NLC", return_prefix_tokens=True
    )
    prefix = int(model.num_prefix_tokens)  # type: ignore[arg-type]
    pairs = layers if prefix else [(patches, None) for patches in layers]
    return Features(_stack(pairs), final.float(), prefix)


def read_timm_maps(model: nn.Module, x: Tensor) -> Features:
    """Any other timm model: its intermediates as maps [B, C, H, W]; embedding: the pooled features before the head."""
    final, layers = model.forward_intermediates(x, norm=False, output_fmt="NCHW")  # type: ignore[operator]
    embedding = model.forward_head(final, pre_logits=True)  # type: ignore[operator]
    return Features([layer.float() for layer in layers], embedding.flatten(1).float())


def read_clip_tokens(model: nn.Module, x: Tensor) -> Features:
    """CLIP's ViT: every residual block with all tokens; embedding: the projected image embedding."""
    out = model.forward_intermediates(x, output_fmt="NLC", output_extra_tokens=True)  # type: ignore[operator]
    pairs = list(zip(out["image_intermediates"], out["image_intermediates_prefix"], strict=True))
    return Features(_stack(pairs), out["image_features"].float(), 1)


def read_clip_resnet(model: nn.Module, x: Tensor) -> Features:
    """CLIP's RN50: the stem after its average pool, then layer1 … layer4; embedding: the attention-pooled one."""
    out = model.forward_intermediates(x)  # type: ignore[operator]
    maps = [layer.float() for layer in out["image_intermediates"]]
    return Features(maps, out["image_features"].float(), cos_skips_nan=True)


def read_trunk_blocks(model: nn.Module, x: Tensor) -> Features:
    """open_clip's tower around a timm model: every block of every stage; embedding: the projected one."""
    trunk: nn.Module = model.trunk  # type: ignore[assignment]
    if not hasattr(trunk, "stages"):
        features = reader_for(trunk)(trunk, x)
        return Features(features.layers, model(x).float(), features.num_prefix_tokens)
    blocks = [block for stage in trunk.stages for block in stage.blocks]  # type: ignore[union-attr]
    with outputs_of(blocks) as outputs:
        embedding = model(x)
    return Features([out.float() for out in outputs], embedding.float())


@contextmanager
def outputs_of(modules: list[nn.Module]) -> Iterator[list[Tensor]]:
    """Collects what `modules` return, in the order of their calls, while the context lasts."""
    outputs: list[Tensor] = []
    handles = [m.register_forward_hook(lambda _m, _i, out: outputs.append(out)) for m in modules]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def _stack(pairs: list[tuple[Tensor, Tensor | None]]) -> Tensor:
    """L pairs of patch tokens [B, N, D] and prefix tokens [B, P, D] → [B, L, P + N, D], fp32."""
    if any(patches.requires_grad for patches, _ in pairs):
        layers = [p if prefix is None else torch.cat([prefix, p], 1) for p, prefix in pairs]
        return torch.stack(layers, 1).float()
    first, prefix = pairs[0]
    P = 0 if prefix is None else prefix.shape[1]
    B, N, D = first.shape
    out = first.new_empty(B, len(pairs), P + N, D, dtype=torch.float32)
    for i, (patches, prefix) in enumerate(pairs):  # copies each number once, not twice
        out[:, i, P:] = patches
        if prefix is not None:
            out[:, i, :P] = prefix
    return out
