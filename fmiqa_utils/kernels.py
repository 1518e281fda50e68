"""The statistics of 64-sample windows for inference: one exponential and two logarithms per number, in place, in cache.

Gives what `distances.column_statistics` gives, rewritten: with m = (p + q) / 2 and K = ½ Σ (p − q) log(p / q), which is skld's,
jsd = ½ (K + Σ m log(p q / m²)). Equal inputs give exactly 0, and nearly equal ones lose fewer digits than p (log p − log m).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

FLOOR = 1e-10  # added to every probability by the released code
SPREAD = 150  # exp(±75) of a million numbers still sums to less than fp32's largest
_BELOW = torch.ones(63, 64).tril()  # cumulative sums as a product: five times as fast as cumsum along columns


def fits(*xs: Tensor) -> bool:
    """True if the values of each x lie so close together that one shift keeps all their exponentials in fp32's range."""
    return all(float(high - low) <= SPREAD for low, high in (x.aminmax() for x in xs))


def middle(x: Tensor) -> Tensor:
    """The shift of x: halfway between its extremes."""
    low, high = x.aminmax()
    return (low + high) / 2


def row_scale(x: Tensor, shift: Tensor, width: int) -> Tensor:
    """1 / Σ exp(x − shift) along the columns of x [G, 64, N] → [G, 64, 1], `width` columns at a time."""
    total = x.new_zeros(*x.shape[:2], 1)
    for part in x.split(width, 2):
        total += (part - shift).exp_().sum(2, keepdim=True)
    return total.reciprocal_()


class Workspace:
    """Four buffers that the statistics of block after block are worked out in."""

    def __init__(self, like: Tensor) -> None:
        self._buffers = [torch.empty(0, device=like.device, dtype=like.dtype) for _ in range(4)]

    def buffers(self, shape: torch.Size) -> list[Tensor]:
        """Four tensors of `shape`, with whatever the last block left in them."""
        return [b.resize_(shape) for b in self._buffers]


def column_statistics(
    names: Sequence[str],
    x: Tensor,
    y: Tensor,
    shifts: tuple[Tensor, Tensor],
    rows: tuple[Tensor, Tensor] | None,
    space: Workspace,
) -> tuple[dict[str, Tensor], Tensor | None]:
    """k of every column of x, y [G, 64, n] without the l2 term → {name: [G, n]}, and Σ (x − y)² where it will be needed.

    shifts: `middle` of all of x and y; rows: `row_scale` of both where wsd's masses are softmax along rows, else None.
    """
    out: dict[str, Tensor] = {}
    p, q, a, b = space.buffers(x.shape)
    for values, shift, into in ((x, shifts[0], p), (y, shifts[1], q)):
        torch.sub(values, shift, out=into).exp_()
    if "wsd" in names and rows is not None:
        torch.mul(p, rows[0], out=a).sub_(
            torch.mul(q, rows[1], out=b)
        )  # fused, equal inputs would not give 0
        out["wsd"] = _cumulated(a, b)
    for masses in (p, q):
        masses.mul_(masses.sum(1, keepdim=True).reciprocal_())
    if "wsd" in names and rows is None:
        out["wsd"] = _cumulated(torch.sub(p, q, out=a), b)
    if "skld" in names or "jsd" in names:
        out |= _divergences(p.add_(FLOOR), q.add_(FLOOR), a, b)
    if "skld" in names or "wsd" in names:
        torch.sub(x, y, out=a)
        return out, a.mul_(a).sum(1)
    return out, None


def _cumulated(masses: Tensor, into: Tensor) -> Tensor:
    """Σ_{i<63} |cumsum(masses)_i| of every column [G, 64, n] → [G, n]."""
    if masses.is_cuda:  # a product might round to TF32 there
        return torch.cumsum(masses, 1, out=into)[:, :-1].abs().sum(1)
    sums = into[:, :-1] if len(into) > 1 else into[0, :-1]
    torch.matmul(_BELOW, masses if len(into) > 1 else masses[0], out=sums)
    return sums.abs_().sum(-2).view(len(into), -1)


def _divergences(p: Tensor, q: Tensor, a: Tensor, b: Tensor) -> dict[str, Tensor]:
    """skld and jsd of every column's p, q [G, 64, n] → [G, n] each; a and b are buffers, p is overwritten."""
    torch.div(p, q, out=b).log_()
    skld = b.mul_(torch.sub(p, q, out=a)).sum(1).mul_(0.5)
    m = torch.add(p, q, out=a).mul_(0.5)
    p.mul_(q).div_(torch.mul(m, m, out=b)).log_()
    return {"skld": skld, "jsd": p.mul_(m).sum(1).add_(skld).mul_(0.5)}
