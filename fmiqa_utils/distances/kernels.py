"""skld, jsd and wsd of 64-sample windows, by two methods with the same results: differentiable, and in place for inference.

In place, each number takes two exponentials (one of them for the sums along rows) and one logarithm: with m = (p + q) / 2, log(p / m) and
log(q / m) serve jsd as they are and skld by their difference. Both are exactly 0 for equal inputs.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, pairwise
from typing import TypeVar

import torch
from torch import Tensor

COLUMNS = {"cpu": 1024, "cuda": 1 << 20}  # columns of 64 computed at once: as many as stay in cache
FLOOR = 1e-10  # added to every probability by the released code
REACH = 75  # exp(±75) of a million numbers still sums to less than fp32's largest

_BELOW = torch.ones(63, 64).tril()  # cumulative sums as a product: four times as fast as cumsum across rows

Columns = tuple[dict[str, Tensor], Tensor | None]  # k of every column, and Σ (x − y)² where it is needed
Block = tuple[slice, Columns]  # the groups it belongs to


def window_statistics(names: Sequence[str], x: Tensor, y: Tensor, mass_axis: int) -> dict[str, Tensor]:
    """log(1 + mean of k over columns)^¼ for skld, jsd, wsd of samples x, y [G, 64, N] → {name: [G]}.

    `mass_axis`: the axis of wsd's softmax, 2 (published: a row's masses sum to one over all N columns) or 1 (the column's 64).
    """
    shifts = None if needs_gradients(x, y) else (shift(x), shift(y))
    by_rows = "wsd" in names and mass_axis == 2
    if shifts is None or shifts[0] is None or shifts[1] is None:
        blocks = step_by_step(names, x, y, by_rows)
    else:
        blocks = in_place(names, x, y, by_rows, (shifts[0], shifts[1]))
    sums = {n: x.new_zeros(x.shape[0]) for n in names}
    for groups, (k, squares) in blocks:
        for n in names:
            value = k[n] if n == "jsd" or squares is None else k[n] + squares * l2_weight(k[n])
            sums[n][groups] += value.sum(1)
    return {n: quarter_root_log(sums[n] / x.shape[2]) for n in names}


Part = TypeVar("Part")


def split_over_threads(work: Callable[[range], list[Part]], count: int) -> list[Part]:
    """work(range(count)), in order, with its windows divided among as many threads as torch would use for one operation.

    The operations are too small to be split: threads that meet after each one mostly wait, on a busy machine for milliseconds.
    """
    threads = min(torch.get_num_threads(), count)
    if threads < 2:
        return work(range(count))
    inference, before = torch.is_inference_mode_enabled(), torch.get_num_threads()

    def share(windows: range) -> list[Part]:
        with torch.inference_mode() if inference else torch.no_grad():
            return work(windows)

    edges = [count * i // threads for i in range(threads + 1)]
    shares = [range(start, end) for start, end in pairwise(edges)]
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(chain.from_iterable(pool.map(share, shares)))
    finally:
        torch.set_num_threads(before)  # the setting that later threads start with


def needs_gradients(*xs: Tensor) -> bool:
    """True if a gradient of any of `xs` may be needed."""
    return torch.is_grad_enabled() and any(x.requires_grad for x in xs)


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
    width = -(-N // max(1, round(N / limit)))
    for g in range(0, G, groups):
        for c in range(0, N, width):
            yield slice(g, min(g + groups, G)), slice(c, min(c + width, N))


# ---- differentiable, and for values of any spread --------------------------------------------------------------------


def step_by_step(names: Sequence[str], x: Tensor, y: Tensor, by_rows: bool) -> Iterator[Block]:
    """The columns of x, y [G, 64, N] block after block, as the formulas are written; `by_rows`: wsd's masses are softmax along rows."""
    rows = (x.logsumexp(2, keepdim=True), y.logsumexp(2, keepdim=True)) if by_rows else None
    for groups, columns in _blocks(x):
        scales = rows and (rows[0][groups], rows[1][groups])
        yield groups, _written_out(names, x[groups, :, columns], y[groups, :, columns], scales)


def _written_out(names: Sequence[str], x: Tensor, y: Tensor, rows: tuple[Tensor, Tensor] | None) -> Columns:
    out = {}
    p, q = x.softmax(1), y.softmax(1)  # [G, 64, n]
    if "wsd" in names:
        masses = p - q if rows is None else (x - rows[0]).exp() - (y - rows[1]).exp()
        out["wsd"] = masses[:, :-1].cumsum(1).abs().sum(1)  # unequal masses settle at the last position
    if "skld" in names or "jsd" in names:
        p, q = p + FLOOR, q + FLOOR
        log_p, log_q = p.log(), q.log()
        out["skld"] = 0.5 * ((p - q) * (log_p - log_q)).sum(1)
    if "jsd" in names:
        log_m = (0.5 * (p + q)).log()  # the released code's + 1e-17 has no effect in fp32
        out["jsd"] = 0.5 * (p * (log_p - log_m) + q * (log_q - log_m)).sum(1)
    return out, (x - y).square().sum(1) if "skld" in names or "wsd" in names else None


# ---- in place --------------------------------------------------------------------------------------------------------


def shift(x: Tensor) -> float | None:
    """The number to subtract from x so that its exponentials stay in fp32's range; None if no single number does that."""
    low, high = (float(v) for v in x.aminmax())
    if max(-low, high) <= REACH:
        return 0.0
    return (low + high) / 2 if high - low <= 2 * REACH else None


def in_place(
    names: Sequence[str], x: Tensor, y: Tensor, by_rows: bool, shifts: tuple[float, float]
) -> Iterator[Block]:
    """As `step_by_step`, without gradients, in five buffers that every block uses again; shifts: `shift` of x and y."""
    rows = (_row_scale(x, shifts[0]), _row_scale(y, shifts[1])) if by_rows else None
    buffers = [x.new_empty(0) for _ in range(5)]
    for groups, columns in _blocks(x):
        scales = rows and (rows[0][groups], rows[1][groups])
        u, v = x[groups, :, columns], y[groups, :, columns]
        yield groups, _fused(names, u, v, shifts, scales, [buffer.resize_(u.shape) for buffer in buffers])


def _fused(
    names: Sequence[str],
    x: Tensor,
    y: Tensor,
    shifts: tuple[float, float],
    rows: tuple[Tensor, Tensor] | None,
    buffers: list[Tensor],
) -> Columns:
    out: dict[str, Tensor] = {}
    p, q, a, b, c = buffers  # [G, 64, n]
    _exponentials(x, shifts[0], p)
    _exponentials(y, shifts[1], q)
    if rows is not None:  # not addcmul: it rounds once, so equal inputs would not give 0
        out["wsd"] = _cumulated(torch.mul(p, rows[0], out=a).sub_(torch.mul(q, rows[1], out=b)), b)
    for masses in (p, q):
        masses.mul_(masses.sum(1, keepdim=True).reciprocal_())
    if "wsd" in names and rows is None:
        out["wsd"] = _cumulated(torch.sub(p, q, out=a), b)
    if "skld" in names or "jsd" in names:
        out |= _divergences(p.add_(FLOOR), q.add_(FLOOR), a, b, c)
    if "skld" in names or "wsd" in names:
        return out, torch.sub(x, y, out=a).square_().sum(1)
    return out, None


def _exponentials(x: Tensor, shift: float, into: Tensor) -> Tensor:
    return torch.sub(x, shift, out=into).exp_() if shift else torch.exp(x, out=into)


def _row_scale(x: Tensor, shift: float) -> Tensor:
    """1 / Σ exp(x − shift) along the columns of x [G, 64, N] → [G, 64, 1]."""
    total, buffer = x.new_zeros(*x.shape[:2], 1), x.new_empty(0)
    for groups, columns in _blocks(x):
        part = x[groups, :, columns]
        total[groups] += _exponentials(part, shift, buffer.resize_(part.shape)).sum(2, keepdim=True)
    return total.reciprocal_()


def _cumulated(masses: Tensor, into: Tensor) -> Tensor:
    """Σ_{i<63} |cumsum(masses)_i| of every column [G, 64, n] → [G, n]."""
    if masses.is_cuda:  # a product might round to TF32 there
        return torch.cumsum(masses, 1, out=into)[:, :-1].abs_().sum(1)
    for group, sums in zip(masses, into, strict=True):
        torch.mm(_BELOW, group, out=sums[:-1])
    return into[:, :-1].abs_().sum(1)


def _divergences(p: Tensor, q: Tensor, a: Tensor, b: Tensor, c: Tensor) -> dict[str, Tensor]:
    """skld and jsd of every column's p, q [G, 64, n] → [G, n] each; a, b and c are buffers, p is overwritten."""
    m = torch.add(p, q, out=a).mul_(0.5)
    to_p, to_q = torch.div(p, m, out=b).log_(), torch.div(q, m, out=c).log_()
    jsd = torch.mul(p, to_p, out=a).addcmul_(q, to_q).sum(1).mul_(0.5)
    return {"skld": to_p.sub_(to_q).mul_(p.sub_(q)).sum(1).mul_(0.5), "jsd": jsd}
