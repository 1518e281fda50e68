"""The six distances between the features of two windows, per layer and joint, published and corrected.

Pure functions of tensors; fp32 inside, differentiable. Source: Ghildyal et al., "Foundation Models Boost Low-Level Perceptual
Similarity Metrics", ICASSP 2025 (arXiv 2409.07650); "published" is what their released code computes, "corrected" the form
that the formula suggests.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fmiqa_utils import kernels
from fmiqa_utils.errors import InputError, near

DISTANCES = ("l2", "cos", "skld", "jsd", "wsd", "swd")
VARIANTS = ("published", "corrected")
SIDE = 8  # a window of the statistical distances is 8 × 8 = 64 samples
COLUMNS = {"cpu": 2048, "cuda": 1 << 20}  # columns of 64 worked on at once: what stays in cache
DIRECTIONS = 32  # of the corrected swd; the published form takes as many as its samples have numbers
DISTANCES_VERSION = 1  # part of every shard's key: raise it when a formula changes

Layers = Tensor | list[Tensor]
Block = tuple[slice, dict[str, Tensor], Tensor | None]  # groups, k of every column, squares


@dataclass(frozen=True)
class Value:
    """One distance of B pairs of windows: joint [B] (None where the form has none) and per layer [B, L]."""

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
    out: dict[tuple[str, str], Value] = {}
    windowed = [n for n in names if n in ("skld", "jsd", "wsd")]
    for variant in variants:
        published = variant == "published"
        if "l2" in names:
            out["l2", variant] = _summed(_per_layer(l2_term, f, g))
        if "cos" in names:
            axis = -1 if published or isinstance(f, Tensor) else 1
            skip = skip_nan and published
            out["cos", variant] = _summed(_per_layer(lambda x, y, a=axis, s=skip: cos_term(x, y, a, s), f, g))
        if windowed:
            form = _windowed_published if published else _windowed_corrected
            values = form(windowed, f, g, num_prefix_tokens, per_layer)
            out |= {(name, variant): value for name, value in values.items()}
        if "swd" in names:
            swd = _swd_published if published else _swd_corrected
            out["swd", variant] = swd(f, g, num_prefix_tokens, per_layer, seed)
    return out


def embedding_cos(f: Tensor, g: Tensor) -> Tensor:
    """1 − cosine of L2-normalised embeddings [B, E] or [B, T, D] (mean over tokens) → [B] in [0, 2]; METHODS 1.2."""
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


def _per_layer(term, f: Layers, g: Layers) -> Tensor:  # type: ignore[no-untyped-def]
    """`term` of every layer → [B, L]."""
    pairs = zip(f.unbind(1), g.unbind(1), strict=True) if isinstance(f, Tensor) else zip(f, g, strict=True)  # type: ignore[union-attr]
    return torch.stack([term(x.float(), y.float()) for x, y in pairs], 1)


def _summed(layers: Tensor) -> Value:
    return Value(layers.sum(1), layers)


# ---- skld, jsd, wsd: statistics of windows of 64 samples -------------------------------------------------------------


def _windowed_published(
    names: list[str], f: Layers, g: Layers, prefix: int, per_layer: bool
) -> dict[str, Value]:
    """The raw reshape of the padded tensor to [64, N], over all layers together and over each alone (METHODS 1.3)."""
    if isinstance(f, Tensor):
        x, y = pad_to_eight(f.float()), pad_to_eight(g.float())  # type: ignore[union-attr]
        B, L = x.shape[:2]
        joint = window_statistics(names, x.reshape(B, 64, -1), y.reshape(B, 64, -1), mass_axis=2)
        if not per_layer:
            return {n: Value(joint[n], joint[n].new_empty(B, 0)) for n in names}
        alone = window_statistics(names, x.reshape(B * L, 64, -1), y.reshape(B * L, 64, -1), mass_axis=2)
        return {n: Value(joint[n], alone[n].view(B, L)) for n in names}
    layers: dict[str, list[Tensor]] = {n: [] for n in names}
    for fl, gl in zip(f, g, strict=True):
        x, y = (pad_to_eight(m.float()).flatten(1).unflatten(1, (64, -1)) for m in (fl, gl))  # [B, 64, N]
        for n, value in window_statistics(names, x, y, mass_axis=2).items():
            layers[n].append(value)
    return {n: Value(None, torch.stack(layers[n], 1)) for n in names}


def _windowed_corrected(
    names: list[str], f: Layers, g: Layers, prefix: int, per_layer: bool
) -> dict[str, Value]:
    """Non-overlapping 8 × 8 spatial windows of each channel's map, softmax over the 64 positions; joint: mean over layers."""
    layers: dict[str, list[Tensor]] = {n: [] for n in names}
    for fl, gl in zip(channel_maps(f, prefix), channel_maps(g, prefix), strict=True):
        for n, value in window_statistics(
            names, spatial_windows(fl), spatial_windows(gl), mass_axis=1
        ).items():
            layers[n].append(value)
    stacked = {n: torch.stack(layers[n], 1) for n in names}
    return {n: Value(values.mean(1), values) for n, values in stacked.items()}


def window_statistics(names: Sequence[str], x: Tensor, y: Tensor, mass_axis: int) -> dict[str, Tensor]:
    """log(1 + mean of k over columns)^¼ for skld, jsd, wsd of samples x, y [G, 64, N] → {name: [G]}.

    `mass_axis`: the axis of wsd's softmax, 2 (published: a row's masses sum to one over all N columns) or 1 (the column's 64).
    Without gradients, and where one shift fits all values, the work is done in place (`kernels`).
    """
    if not _needs_gradients(x, y) and kernels.fits(x, y):
        blocks = _in_place(names, x, y, mass_axis)
    else:
        blocks = _step_by_step(names, x, y, mass_axis)
    sums = {n: x.new_zeros(x.shape[0]) for n in names}
    for groups, k, squares in blocks:
        for n in names:
            value = k[n] + squares * l2_weight(k[n]) if n != "jsd" and squares is not None else k[n]
            sums[n] = sums[n].index_add(0, torch.arange(x.shape[0], device=x.device)[groups], value.sum(1))
    return {n: quarter_root_log(sums[n] / x.shape[2]) for n in names}


def _needs_gradients(*xs: Tensor) -> bool:
    return torch.is_grad_enabled() and any(x.requires_grad for x in xs)


def _in_place(names: Sequence[str], x: Tensor, y: Tensor, mass_axis: int) -> Iterator[Block]:
    """The blocks of x, y through `kernels`."""
    shifts, space = (kernels.middle(x), kernels.middle(y)), kernels.Workspace(x)
    rows = None
    if "wsd" in names and mass_axis == 2:
        width = COLUMNS.get(x.device.type, COLUMNS["cpu"])
        rows = kernels.row_scale(x, shifts[0], width), kernels.row_scale(y, shifts[1], width)
    for groups, columns in _blocks(x):
        scales = rows and (rows[0][groups], rows[1][groups])
        block = (x[groups, :, columns], y[groups, :, columns])
        yield groups, *kernels.column_statistics(names, *block, shifts, scales, space)


def _step_by_step(names: Sequence[str], x: Tensor, y: Tensor, mass_axis: int) -> Iterator[Block]:
    """The same, differentiable and for values of any spread."""
    rows = None
    if "wsd" in names and mass_axis == 2:
        rows = x.logsumexp(2, keepdim=True), y.logsumexp(2, keepdim=True)
    for groups, columns in _blocks(x):
        scales = rows and (rows[0][groups], rows[1][groups])
        yield groups, *column_statistics(names, x[groups, :, columns], y[groups, :, columns], scales)


def column_statistics(
    names: Sequence[str], x: Tensor, y: Tensor, rows: tuple[Tensor, Tensor] | None
) -> tuple[dict[str, Tensor], Tensor | None]:
    """k of every column of x, y [G, 64, n] without the l2 term → {name: [G, n]}, and Σ (x − y)² where it will be needed."""
    out = {}
    p, q = x.softmax(1), y.softmax(1)  # [G, 64, n]
    if "wsd" in names:
        masses = p - q if rows is None else (x - rows[0]).exp() - (y - rows[1]).exp()
        out["wsd"] = masses[:, :-1].cumsum(1).abs().sum(1)  # unequal masses settle at the last position
    if "skld" in names or "jsd" in names:
        p, q = p + 1e-10, q + 1e-10
        log_p, log_q = p.log(), q.log()
        out["skld"] = 0.5 * ((p - q) * (log_p - log_q)).sum(1)
    if "jsd" in names:
        log_m = (0.5 * (p + q)).log()  # the released code's + 1e-17 is nothing in fp32
        out["jsd"] = 0.5 * (p * (log_p - log_m) + q * (log_q - log_m)).sum(1)
    squares = (x - y).square().sum(1) if "skld" in names or "wsd" in names else None  # [G, n]
    return out, squares


def l2_weight(k: Tensor) -> Tensor:
    """w = 1 / (√exp(−1 / (k + 10)) · (k + 10)²), the weight of the l2 term in skld and wsd."""
    shifted = k + 10
    return (0.5 / shifted).exp() / shifted.square()


def quarter_root_log(mean: Tensor) -> Tensor:
    """log(1 + mean)^¼; its gradient at 0, infinite, is taken as 0 so that equal inputs do not poison a training step."""
    positive = mean > 0
    return torch.where(positive, torch.log1p(torch.where(positive, mean, 1)).pow(0.25), 0)


def _blocks(x: Tensor) -> Iterator[tuple[slice, slice]]:
    """Slices over groups and columns of x [G, 64, N] of about `COLUMNS` columns each."""
    G, _, N = x.shape
    limit = COLUMNS.get(x.device.type, COLUMNS["cpu"])
    groups = max(1, limit // N)
    pieces = max(1, round(N / limit))
    width = -(-N // pieces)
    for g in range(0, G, groups):
        for c in range(0, N, width):
            yield slice(g, min(g + groups, G)), slice(c, min(c + width, N))


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


def _swd_published(f: Layers, g: Layers, prefix: int, per_layer: bool, seed: int) -> Value:
    """T·D samples of L numbers, summed over samples; a layer alone: L = 1, or a map's C channels (METHODS 1.3)."""
    if not isinstance(f, Tensor):
        pairs = zip(f, g, strict=True)
        return Value(
            None,
            torch.stack(
                [sliced(x.float().flatten(2), y.float().flatten(2), seed).sum(1) for x, y in pairs], 1
            ),
        )
    x, y = f.float().flatten(2), g.float().flatten(2)  # type: ignore[union-attr]  # [B, L, T·D]
    joint = sliced(x, y, seed).sum(1)
    if not per_layer:
        return Value(joint, joint.new_empty(len(joint), 0))
    return Value(joint, (x.sort(2).values - y.sort(2).values).square().sum(2))


def _swd_corrected(f: Layers, g: Layers, prefix: int, per_layer: bool, seed: int) -> Value:
    """Positions as samples of C channels, `DIRECTIONS` directions, mean over samples; joint: mean over layers."""
    pairs = zip(channel_maps(f, prefix), channel_maps(g, prefix), strict=True)
    layers = torch.stack([sliced(x.flatten(2), y.flatten(2), seed, DIRECTIONS).mean(1) for x, y in pairs], 1)
    return Value(layers.mean(1), layers)


# ---- shapes ---------------------------------------------------------------------------------------------------------------


def pad_to_eight(x: Tensor) -> Tensor:
    """[…, T, D] with T padded at the bottom and D at the left to round(n / 8) · 8; `round` may crop (50 → 48 tokens)."""
    T, D = x.shape[-2:]
    return F.pad(x, (round(D / 8) * 8 - D, 0, 0, round(T / 8) * 8 - T)).contiguous()


def channel_maps(f: Layers, num_prefix_tokens: int) -> list[Tensor]:
    """Every layer as maps [B, C, H, W]: patch tokens go back on their square grid, prefix tokens are left out."""
    if not isinstance(f, Tensor):
        return [x.float() for x in f]
    patches = f[:, :, num_prefix_tokens:].float()  # [B, L, N, D]
    side = round(patches.shape[2] ** 0.5)
    return [x.transpose(1, 2).unflatten(2, (side, side)) for x in patches.unbind(1)]


def spatial_windows(x: Tensor) -> Tensor:
    """[B, C, H, W] → [B, 64, C · h · w]: non-overlapping 8 × 8 windows, zeros at the bottom and right up to a multiple of 8."""
    B, C, H, W = x.shape
    x = F.pad(x, (0, -W % SIDE, 0, -H % SIDE))
    h, w = x.shape[2] // SIDE, x.shape[3] // SIDE
    return x.reshape(B, C, h, SIDE, w, SIDE).permute(0, 3, 5, 2, 4, 1).reshape(B, SIDE * SIDE, h * w * C)


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
