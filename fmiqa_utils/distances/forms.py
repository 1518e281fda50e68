"""The six distances between the features of two windows, per layer and joint, published and corrected.

Pure functions of tensors; fp32 inside, differentiable. Source: Ghildyal et al., "Foundation Models Boost Low-Level Perceptual
Similarity Metrics", ICASSP 2025 (arXiv 2409.07650); "published" is what their released code computes, "corrected" the form
that the formula suggests.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fmiqa_utils.distances.kernels import needs_gradients, split_over_threads, window_statistics
from fmiqa_utils.distances.table import DISTANCES, VARIANTS
from fmiqa_utils.errors import InputError, near

SIDE = 8  # a window of the statistical distances is 8 × 8 = 64 samples
DIRECTIONS = 32  # of the corrected swd; the published form has as many as a sample has numbers
Layers = Tensor | list[Tensor]


@dataclass(frozen=True)
class Value:
    """One distance of B pairs of windows: joint [B] (None if the form has none) and per layer [B, L]."""

    joint: Tensor | None
    layers: Tensor


def distance(
    name: str,
    f: Layers,
    g: Layers,
    variant: str = "published",
    *,
    num_prefix_tokens: int = 0,
    skip_nan: bool = False,
) -> Value:
    """Distance `name` between features f (distorted) and g (reference).

    f, g: tokens [B, L, T, D] or lists of L maps [B, C, H, W]; values ≥ 0, 0 for equal features (skld and jsd: about 1e-3 in fp32).
    Raises InputError for an unknown name or variant and for features that differ in shape.
    """
    return distances((name,), f, g, (variant,), num_prefix_tokens=num_prefix_tokens, skip_nan=skip_nan)[
        name, variant
    ]


def distances(
    names: Sequence[str],
    f: Layers,
    g: Layers,
    variants: Sequence[str] = ("published",),
    *,
    num_prefix_tokens: int = 0,
    skip_nan: bool = False,
    per_layer: bool = True,
    seed: int = 0,
) -> dict[tuple[str, str], Value]:
    """All of `names` in all of `variants`; skld, jsd and wsd share their softmax, logs and sums.

    `per_layer=False` leaves out the layer curves of the published joint distances. `seed` fixes swd's directions.
    Raises InputError as `distance` does.
    """
    _check(names, variants, f, g)
    form = Form(num_prefix_tokens, skip_nan, per_layer, seed)
    if f[0].is_cuda or _gradients(f, g):
        return _of_windows(names, f, g, variants, form, (Padding(), Padding()))

    def one_by_one(windows: range) -> list[dict[tuple[str, str], Value]]:
        """One window at a time: its intermediate results stay in cache, and little new memory is requested."""
        pads = Padding(), Padding()
        return [_of_windows(names, _window(f, b), _window(g, b), variants, form, pads) for b in windows]

    parts = split_over_threads(one_by_one, len(f) if isinstance(f, Tensor) else len(f[0]))
    return {key: _joined([part[key] for part in parts]) for key in parts[0]}


@dataclass(frozen=True)
class Form:
    """The options of the functions that `distances.table` names."""

    prefix: int
    skip_nan: bool
    per_layer: bool
    seed: int


def _of_windows(
    names: Sequence[str],
    f: Layers,
    g: Layers,
    variants: Sequence[str],
    form: Form,
    pads: "Pads",
) -> dict[tuple[str, str], Value]:
    """`distances` of all windows in one batch."""
    out: dict[tuple[str, str], Value] = {}
    for variant in variants:
        for name in names:
            if (name, "published") in out and _has_one_form(name, f, form):
                out[name, variant] = out[name, "published"]
        for function in dict.fromkeys(entry.function for entry in DISTANCES.values()):
            todo = [n for n in names if DISTANCES[n].function == function and (n, variant) not in out]
            if todo:
                values: dict[str, Value] = globals()[function](todo, f, g, variant == "published", form, pads)
                out |= {(name, variant): values[name] for name in todo}
    return out


def _has_one_form(name: str, f: Layers, form: Form) -> bool:
    one_form = DISTANCES[name].one_form
    return one_form == "always" or (one_form == "tokens" and isinstance(f, Tensor) and not form.skip_nan)


def _gradients(f: Layers, g: Layers) -> bool:
    return needs_gradients(*(x for t in (f, g) for x in ([t] if isinstance(t, Tensor) else t)))


def _window(f: Layers, b: int) -> Layers:
    """Window number `b`, as a batch of one."""
    return f[b : b + 1] if isinstance(f, Tensor) else [x[b : b + 1] for x in f]


def _joined(parts: list[Value]) -> Value:
    joint = None if parts[0].joint is None else torch.cat([p.joint for p in parts if p.joint is not None])
    return Value(joint, torch.cat([p.layers for p in parts]))


def embedding_cos(f: Tensor, g: Tensor) -> Tensor:
    """1 − cosine of L2-normalised embeddings [B, E] or [B, T, D] (mean over tokens) → [B] in [0, 2] (docs/methods.md, Embedding)."""
    cosine = (F.normalize(f.float(), dim=-1) * F.normalize(g.float(), dim=-1)).sum(-1)  # [B] or [B, T]
    return (1 - cosine).flatten(1).mean(1) if cosine.dim() > 1 else 1 - cosine


# ---- l2 and cos: a sum over layers, so the terms are the layer curve ------------------------------------------------


def l2_term(x: Tensor, y: Tensor) -> Tensor:
    """mean((x − y)²) over all but the first axis → [B]."""
    return (x - y).square().flatten(1).mean(1)


def cos_term(x: Tensor, y: Tensor, axis: int = -1, skip_nan: bool = False) -> Tensor:
    """mean(1 − cos) with the cosine along `axis` → [B] in [0, 2].

    `skip_nan`: infinite terms count as 0 and NaN is left out of the mean, as released for CLIP RN50 in fp16.
    """
    terms = 1 - F.cosine_similarity(x, y, dim=axis)
    if skip_nan:
        return torch.where(terms.isinf(), 0, terms).flatten(1).nanmean(1)
    return terms.flatten(1).mean(1)


def l2_of_layers(
    names: list[str], f: Layers, g: Layers, published: bool, form: Form, pads: "Pads"
) -> dict[str, Value]:
    """`l2_term` of every layer, summed over layers."""
    return {"l2": _summed(_per_layer(l2_term, f, g))}


def cos_of_layers(
    names: list[str], f: Layers, g: Layers, published: bool, form: Form, pads: "Pads"
) -> dict[str, Value]:
    """`cos_term` of every layer, summed over layers: along the last axis as published, along a map's channels where corrected."""
    axis = -1 if published or isinstance(f, Tensor) else 1
    return {"cos": _summed(_per_layer(lambda x, y: cos_term(x, y, axis, form.skip_nan and published), f, g))}


def _per_layer(term: Callable[[Tensor, Tensor], Tensor], f: Layers, g: Layers) -> Tensor:
    """`term` of every layer → [B, L]."""
    pairs = zip(f.unbind(1), g.unbind(1), strict=True) if isinstance(f, Tensor) else zip(f, g, strict=True)  # type: ignore[union-attr]
    return torch.stack([term(x.float(), y.float()) for x, y in pairs], 1)


def _summed(layers: Tensor) -> Value:
    return Value(layers.sum(1), layers)


# ---- skld, jsd, wsd: statistics of windows of 64 samples -------------------------------------------------------------


def windows_of_64(
    names: list[str], f: Layers, g: Layers, published: bool, form: Form, pads: "Pads"
) -> dict[str, Value]:
    """skld, jsd and wsd, which share their softmax, logs and sums."""
    return (
        _windowed_published(names, f, g, form, pads) if published else _windowed_corrected(names, f, g, form)
    )


def _windowed_published(names: list[str], f: Layers, g: Layers, form: Form, pads: "Pads") -> dict[str, Value]:
    """The raw reshape of the padded tensor to [64, N], of all layers and of each alone (docs/methods.md, Windows of 64 samples)."""
    if isinstance(f, Tensor):
        x, y = pads[0](f.float()), pads[1](g.float())  # type: ignore[union-attr]
        B, L = x.shape[:2]
        joint = window_statistics(names, x.reshape(B, 64, -1), y.reshape(B, 64, -1), mass_axis=2)
        if not form.per_layer:
            return {n: Value(joint[n], joint[n].new_empty(B, 0)) for n in names}
        alone = window_statistics(names, x.reshape(B * L, 64, -1), y.reshape(B * L, 64, -1), mass_axis=2)
        return {n: Value(joint[n], alone[n].view(B, L)) for n in names}
    layers: dict[str, list[Tensor]] = {n: [] for n in names}
    for fl, gl in zip(f, g, strict=True):
        x, y = (pad_to_eight(m.float()).flatten(1).unflatten(1, (64, -1)) for m in (fl, gl))  # [B, 64, N]
        for n, value in window_statistics(names, x, y, mass_axis=2).items():
            layers[n].append(value)
    return {n: Value(None, torch.stack(layers[n], 1)) for n in names}


def _windowed_corrected(names: list[str], f: Layers, g: Layers, form: Form) -> dict[str, Value]:
    """Non-overlapping 8 × 8 spatial windows of each channel's map, softmax over the 64 positions; joint: mean over layers."""
    layers: dict[str, list[Tensor]] = {n: [] for n in names}
    for fl, gl in zip(channel_maps(f, form.prefix), channel_maps(g, form.prefix), strict=True):
        x, y = spatial_windows(fl), spatial_windows(gl)
        for n, value in window_statistics(names, x, y, mass_axis=1).items():
            layers[n].append(value)
    stacked = {n: torch.stack(layers[n], 1) for n in names}
    return {n: Value(values.mean(1), values) for n, values in stacked.items()}


# ---- swd: sliced Wasserstein distance ----------------------------------------------------------------------------------


def directions(dim: int, seed: int, count: int | None = None) -> Tensor:
    """`count` (default `dim`) random unit vectors [count, dim], the same on every machine: numpy's frozen legacy generator."""
    v = np.random.RandomState(seed).standard_normal((count or dim, dim))
    return torch.from_numpy((v / np.linalg.norm(v, axis=1, keepdims=True)).astype(np.float32))


def sliced(x: Tensor, y: Tensor, seed: int, count: int | None = None) -> Tensor:
    """Squared difference of sorted projections of x, y [B, K, N] (N samples of K numbers) → [B, N], mean over `count` (K)."""
    v = directions(x.shape[1], seed, count).to(x.device)
    total = x.new_zeros(x.shape[0], x.shape[2])
    for direction in v:  # one at a time: K·N sorted floats at once would not stay in cache
        a, b = torch.einsum("k,bkn->bn", direction, x), torch.einsum("k,bkn->bn", direction, y)
        total = total + (a.sort(1).values - b.sort(1).values).square()
    return total / len(v)


def sliced_wasserstein(
    names: list[str], f: Layers, g: Layers, published: bool, form: Form, pads: "Pads"
) -> dict[str, Value]:
    """swd along `directions`, the same for every pair and machine."""
    return {"swd": (_swd_published if published else _swd_corrected)(f, g, form)}


def _swd_published(f: Layers, g: Layers, form: Form) -> Value:
    """T·D samples of L numbers, summed over samples; a layer alone: L = 1, or a map's C channels (docs/methods.md, swd)."""
    if not isinstance(f, Tensor):
        pairs = zip(f, g, strict=True)
        return Value(
            None,
            torch.stack(
                [sliced(x.float().flatten(2), y.float().flatten(2), form.seed).sum(1) for x, y in pairs], 1
            ),
        )
    x, y = f.float().flatten(2), g.float().flatten(2)  # type: ignore[union-attr]  # [B, L, T·D]
    joint = sliced(x, y, form.seed).sum(1)
    if not form.per_layer:
        return Value(joint, joint.new_empty(len(joint), 0))
    return Value(joint, (x.sort(2).values - y.sort(2).values).square().sum(2))


def _swd_corrected(f: Layers, g: Layers, form: Form) -> Value:
    """Positions as samples of C channels, `DIRECTIONS` directions, mean over samples; joint: mean over layers."""
    pairs = zip(channel_maps(f, form.prefix), channel_maps(g, form.prefix), strict=True)
    layers = torch.stack(
        [sliced(x.flatten(2), y.flatten(2), form.seed, DIRECTIONS).mean(1) for x, y in pairs], 1
    )
    return Value(layers.mean(1), layers)


# ---- shapes ---------------------------------------------------------------------------------------------------------------


def pad_to_eight(x: Tensor) -> Tensor:
    """[…, T, D] with T padded at the bottom and D at the left to round(n / 8) · 8; `round` may crop (50 → 48 tokens)."""
    T, D = x.shape[-2:]
    return F.pad(x, (round(D / 8) * 8 - D, 0, 0, round(T / 8) * 8 - T)).contiguous()


class Padding:
    """`pad_to_eight`, into the same memory at every call unless gradients are needed."""

    _buffer: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """The padded copy of x […, T, D]; the next call overwrites it."""
        if self._buffer is None or self._buffer.shape[:-2] != x.shape[:-2] or needs_gradients(x):
            self._buffer = pad_to_eight(x)
            return self._buffer
        T, left = min(x.shape[-2], self._buffer.shape[-2]), self._buffer.shape[-1] - x.shape[-1]
        self._buffer[..., :T, max(left, 0) :] = x[..., :T, max(-left, 0) :]
        return self._buffer


Pads = tuple[Padding, Padding]  # of f and g


def channel_maps(f: Layers, num_prefix_tokens: int) -> list[Tensor]:
    """Every layer as maps [B, C, H, W]: patch tokens go back on their square grid, prefix tokens are left out."""
    if not isinstance(f, Tensor):
        return [x.float() for x in f]
    patches = f[:, :, num_prefix_tokens:].float()  # [B, L, N, D]
    side = round(patches.shape[2] ** 0.5)
    return [x.transpose(1, 2).unflatten(2, (side, side)) for x in patches.unbind(1)]


def spatial_windows(x: Tensor) -> Tensor:
    """[B, C, H, W] → [B, 64, h · w · C]: non-overlapping 8 × 8 windows, zeros at the bottom and right up to a multiple of 8."""
    x = x.permute(0, 2, 3, 1)  # the order of tokens in memory
    B, H, W, C = x.shape
    x = F.pad(x, (0, 0, 0, -W % SIDE, 0, -H % SIDE))
    h, w = x.shape[1] // SIDE, x.shape[2] // SIDE
    return x.reshape(B, h, SIDE, w, SIDE, C).permute(0, 2, 4, 1, 3, 5).reshape(B, SIDE * SIDE, h * w * C)


def _check(names: Sequence[str], variants: Sequence[str], f: Layers, g: Layers) -> None:
    for name in names:
        if name not in DISTANCES:
            raise InputError(f"there is no distance called {name!r}; {near(name, DISTANCES)}")
    for variant in variants:
        if variant not in VARIANTS:
            raise InputError(f"there is no variant called {variant!r}; {near(variant, VARIANTS)}")
    shapes = [[tuple(x.shape) for x in ([t] if isinstance(t, Tensor) else t)] for t in (f, g)]
    if shapes[0] != shapes[1]:
        raise InputError(f"the features differ in shape: {shapes[0][:3]} and {shapes[1][:3]}.")
