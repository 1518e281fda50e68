"""PLCC after a logistic: the 4- and 5-parameter mappings of the Video Quality Experts Group.

Four parameters: f(x) = a + b / (1 + exp(−(x − m) / s)), VQEG FR-TV Phase I (2000) and II (2003).
Five parameters: f(x) = a + b (1/2 − 1 / (1 + exp((x − m) / s))) + c x, Sheikh, Sabir and Bovik (2006), eq. 9.

For a given (m, s) both are linear in the other parameters, which are solved exactly (variable projection). So
only a box of two dimensions is searched: m far outside the data gives an exponential, a wide s a straight
line. The usual fits fail because their parameters drift to infinity in these two directions.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize
from scipy.special import expit

from fmiqa_utils.statistics.coefficients import FloatArray, is_constant

Parameters = Literal[4, 5]

_LOCATIONS = np.linspace(0.02, 0.98, 9)  # starting values of m: quantiles of the prediction
_SCALES = (0.03, 0.1, 0.3, 1.0, 3.0)  # starting values of s: robust standard deviations of the prediction
_NARROWEST = 0.03  # robust standard deviations: steeper is a step between two neighbouring items
_WIDEST = 30.0  # standard deviations: wider is a straight line, which is tried separately
_FARTHEST = 10.0  # ranges of the prediction that m may lie outside it
_START_ITEMS = 1000  # the starts are ranked on this many items
_REFINED = 5  # starts refined on all items


class LogisticFit(NamedTuple):
    """A least-squares mapping from prediction to quality.

    `plcc` has the sign of the raw PLCC and is never nearer to zero: the curve rises if the raw PLCC is
    positive. `rmse` is in the units of the label. `converged` is false if the optimiser did not converge from
    any start that reached the best curve (the numbers still belong to that curve), or if nothing can be
    fitted (NaN).
    """

    plcc: float
    rmse: float
    converged: bool
    fitted: FloatArray  # [n], f(prediction) in the units of the label
    curve: Callable[[ArrayLike], FloatArray]  # f at any other predictions


class _Problem(NamedTuple):
    x: FloatArray  # [n], standardised prediction
    basis: FloatArray  # [n, 1 or 2], orthonormal: the constant, and for five parameters the line
    rest: FloatArray  # [n], standardised quality minus its projection on the basis


def fit_logistic(prediction: ArrayLike, quality: ArrayLike, parameters: Parameters = 5) -> LogisticFit:
    """Fit a VQEG logistic with 4 or 5 parameters from `prediction` [n] to `quality` [n].

    NaN and not converged where n is not larger than the number of parameters, a value is not finite or a side is constant.
    """
    x, y = np.asarray(prediction, dtype=float), np.asarray(quality, dtype=float)
    finite = np.isfinite(x).all() and np.isfinite(y).all()
    if len(x) <= parameters or not finite or is_constant(x) or is_constant(y):
        return LogisticFit(np.nan, np.nan, False, np.full(len(x), np.nan), _nowhere)
    given = x
    x, target = _standardise(x), _standardise(y)
    raw = float(np.mean(x * target))
    residual, converged, theta = _best_curve(_problem(x, target, parameters), raw)
    line = target - raw * x
    if line @ line <= residual @ residual:  # the limit s → ∞ of both forms
        residual, plcc, theta = line, raw, None
    else:
        plcc = float(np.copysign(np.sqrt(1 - np.mean(residual**2)), raw))
    fitted = y.mean() + y.std() * (target - residual)
    rmse = float(y.std() * np.sqrt(np.mean(residual**2)))
    return LogisticFit(plcc, rmse, converged, fitted, _continued(given, fitted, theta, parameters))


def _nowhere(prediction: ArrayLike) -> FloatArray:
    return np.full(np.shape(prediction), np.nan)


def _continued(
    given: FloatArray, fitted: FloatArray, theta: FloatArray | None, parameters: Parameters
) -> Callable[[ArrayLike], FloatArray]:
    """f between and beyond the predictions `given`: the shape `theta` (None: a line), its linear parameters read from `fitted`."""
    middle, spread = given.mean(), given.std()

    def columns(prediction: ArrayLike) -> FloatArray:
        x = (np.asarray(prediction, dtype=float) - middle) / spread
        line = [x] if theta is None or parameters == 5 else []
        bend = [] if theta is None else [_curve(theta, x)[1]]
        return np.stack([np.ones_like(x), *line, *bend], axis=-1)

    weights = np.linalg.lstsq(columns(given), fitted, rcond=None)[0]
    return lambda prediction: columns(prediction) @ weights


def _standardise(values: FloatArray) -> FloatArray:
    centred = values - values.mean()
    return centred / np.sqrt(np.mean(centred**2))


def _problem(x: FloatArray, target: FloatArray, parameters: Parameters) -> _Problem:
    columns = [np.ones_like(x), x][: parameters - 3]
    basis = np.linalg.qr(np.stack(columns, axis=1))[0]
    return _Problem(x, basis, target - basis @ (basis.T @ target))


def _best_curve(problem: _Problem, raw: float) -> tuple[FloatArray, bool, FloatArray | None]:
    """Residual [n] of the best logistic with the direction of `raw`; whether its fit converged; its (m, log s)."""
    spread = _robust_spread(problem.x)
    reach = _FARTHEST * np.ptp(problem.x)
    box = [
        (problem.x.min() - reach, problem.x.max() + reach),
        (np.log(_NARROWEST * spread), np.log(_WIDEST)),
    ]
    options = {"maxiter": 500, "ftol": 1e-12, "gtol": 1e-7}
    fits = [
        minimize(_loss, start, args=(problem,), jac=True, method="L-BFGS-B", bounds=box, options=options)
        for start in _starts(problem, spread, raw)
    ]
    candidates = [(fit, *_residual(fit.x, problem)) for fit in fits]
    forwards = [c for c in candidates if not _is_backwards(c[2], raw, problem)]
    if not forwards:
        return problem.rest, any(fit.success for fit in fits), None
    best, residual, _ = min(forwards, key=lambda c: float(c[0].fun))
    agreed = any(c[0].success and c[0].fun <= best.fun + 1e-9 for c in forwards)
    return residual, agreed, best.x


def _robust_spread(x: FloatArray) -> float:
    """Spread of the bulk of a standardised prediction: a few far outliers must not make the bulk a point."""
    lower, upper = np.quantile(x, (0.25, 0.75))
    return min(1.0, (upper - lower) / 1.349) or 1.0


def _starts(problem: _Problem, spread: float, raw: float) -> list[FloatArray]:
    """The starts (m, log s) with the smallest loss on evenly ranked items, best first."""
    even = np.linspace(0, len(problem.x) - 1, min(len(problem.x), _START_ITEMS)).round().astype(int)
    picked = np.argsort(problem.x)[even]
    basis = np.linalg.qr(problem.basis[picked])[0]
    rest = problem.rest[picked] - basis @ (basis.T @ problem.rest[picked])
    sample = _Problem(problem.x[picked], basis, rest)
    grid = [
        np.array([location, np.log(scale * spread)])
        for location in np.quantile(problem.x, _LOCATIONS)
        for scale in _SCALES
    ]
    return sorted(grid, key=lambda start: _start_loss(start, sample, raw))[:_REFINED]


def _start_loss(start: FloatArray, sample: _Problem, raw: float) -> float:
    residual, weight = _residual(start, sample)
    return float("inf") if _is_backwards(weight, raw, sample) else float(residual @ residual)


def _is_backwards(weight: float, raw: float, problem: _Problem) -> bool:
    """Whether a logistic without a line goes against the raw correlation; with a line it may bend either way."""
    return problem.basis.shape[1] == 1 and weight * raw < 0


def _curve(theta: FloatArray, x: FloatArray) -> tuple[FloatArray, FloatArray]:
    """u = (x − m) / s and its logistic up to a constant: computed on the side that keeps its precision where m is far."""
    u = (x - theta[0]) * np.exp(-theta[1])
    side = 1.0 if theta[0] > 0 else -1.0
    return u, side * expit(side * u)


def _project(theta: FloatArray, problem: _Problem) -> tuple[FloatArray, FloatArray, FloatArray, float]:
    """u [n], logistic [n], residual [n] and the logistic's weight b, the linear parameters solved exactly."""
    u, curve = _curve(theta, problem.x)
    centred = curve - problem.basis @ (problem.basis.T @ curve)
    power = centred @ centred
    weight = float(centred @ problem.rest / power) if power > 1e-24 * (curve @ curve) else 0.0
    return u, curve, problem.rest - weight * centred, weight


def _residual(theta: FloatArray, problem: _Problem) -> tuple[FloatArray, float]:
    _, _, residual, weight = _project(theta, problem)
    return residual, weight


def _loss(theta: FloatArray, problem: _Problem) -> tuple[float, FloatArray]:
    """Mean squared residual and its gradient in (m, log s); optimal linear parameters add nothing to it."""
    u, curve, residual, weight = _project(theta, problem)
    pull = residual * np.abs(curve) * (1 - np.abs(curve)) * (2 * weight / len(u))
    return float(residual @ residual / len(u)), np.array([pull.sum() * np.exp(-theta[1]), pull @ u])
