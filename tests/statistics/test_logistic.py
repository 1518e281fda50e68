"""The fits find known curves, keep signs, and never fail in silence on the published scores."""

from pathlib import Path

import numpy as np
import pytest
import released
from scipy.special import expit

from fmiqa_utils.statistics.coefficients import plcc
from fmiqa_utils.statistics.logistic import fit_logistic

X = np.linspace(-3, 5, 81)


@pytest.mark.parametrize("parameters", [4, 5])
@pytest.mark.parametrize("amplitude", [40, -40])
@pytest.mark.parametrize(("location", "scale"), [(1, 0.5), (-1, 2), (0.3, 0.15)])
def test_recovers_a_logistic_of_either_direction(parameters, amplitude, location, scale) -> None:
    quality = 30 + amplitude * expit((X - location) / scale)
    fit = fit_logistic(X, quality, parameters)
    assert fit.converged
    assert fit.plcc == pytest.approx(np.sign(amplitude), abs=1e-8)
    assert fit.fitted == pytest.approx(quality, abs=1e-2)


def test_five_parameters_recover_a_logistic_on_a_slope() -> None:
    quality = 3 + 10 * (0.5 - expit(-(X - 1) / 0.4)) + 0.7 * X
    assert fit_logistic(X, quality, 5).plcc == pytest.approx(1, abs=1e-8)
    assert fit_logistic(X, quality, 4).plcc < 0.999


def test_rmse_and_plcc_of_known_noise() -> None:
    # Two opinions at every x, one above and one below the curve by 2: the least-squares curve is the curve
    # itself, its RMSE is 2, and PLCC² = var(f) / (var(f) + 4).
    curve = 50 * expit((X - 1) / 0.7)
    fit = fit_logistic(np.tile(X, 2), np.concatenate([curve + 2, curve - 2]), 4)
    assert fit.rmse == pytest.approx(2, abs=1e-6)
    assert fit.plcc == pytest.approx(np.sqrt(curve.var() / (curve.var() + 4)), abs=1e-6)


@pytest.mark.parametrize("parameters", [4, 5])
def test_a_straight_line_and_an_exponential_are_limits_of_the_curve(parameters) -> None:
    line = fit_logistic(X, 7 - 2 * X, parameters)
    assert line.converged
    assert line.plcc == pytest.approx(-1, abs=1e-12)
    growth = fit_logistic(X, np.exp(X / 1.5), parameters)
    assert growth.converged
    assert growth.plcc == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("parameters", [4, 5])
def test_units_do_not_matter(parameters) -> None:
    rng = np.random.default_rng(2)
    x, quality = rng.normal(size=(2, 150))
    quality = quality + 3 * expit(4 * x)
    fit = fit_logistic(x, quality, parameters)
    moved = fit_logistic(1e-7 * x + 3, 1000 * quality - 5, parameters)
    assert moved.plcc == pytest.approx(fit.plcc, abs=1e-6)
    assert moved.rmse == pytest.approx(1000 * fit.rmse, rel=1e-5)
    mirrored = fit_logistic(-x, quality, parameters)
    assert mirrored.plcc == pytest.approx(-fit.plcc, abs=1e-6)


@pytest.mark.parametrize("parameters", [4, 5])
def test_never_nearer_to_zero_than_raw_and_consistent_with_its_own_curve(parameters) -> None:
    rng = np.random.default_rng(3)
    for trial in range(25):
        x = rng.standard_t(2, size=60)  # heavy tails
        quality = (trial - 12) / 12 * np.tanh(x) + rng.normal(size=60)
        raw, fit = np.corrcoef(x, quality)[0, 1], fit_logistic(x, quality, parameters)
        assert fit.converged
        assert fit.plcc * np.sign(raw) >= abs(raw)
        assert np.corrcoef(fit.fitted, quality)[0, 1] == pytest.approx(np.abs(fit.plcc), abs=1e-9)
        assert np.sqrt(np.mean((fit.fitted - quality) ** 2)) == pytest.approx(fit.rmse)


@pytest.mark.parametrize(
    ("x", "quality"),
    [
        ([3.0] * 9, range(9)),
        (range(9), [3.0] * 9),
        (range(4), range(4)),
        ([], []),
        ([*range(8), np.inf], range(9)),
        ([*range(8), np.nan], range(9)),
    ],
)
def test_nothing_to_fit_is_nan_and_not_converged(x, quality) -> None:
    fit = fit_logistic(list(x), list(quality), 4)
    assert not fit.converged
    assert np.isnan([fit.plcc, fit.rmse]).all()
    assert len(fit.fitted) == len(list(x))


def test_every_column_of_results_in_the_released_layout(tmp_path: Path) -> None:
    fitted = 0
    for dataset, table in released.write_per_image_tables(tmp_path).items():
        methods = table.columns.drop(["dis", "ref", "mos"])
        quality = (1 if dataset == "pipal" else -1) * table["mos"].to_numpy()
        values = table[methods].to_numpy() * np.where(methods == "psnr", 1, -1)
        for method, column, linear in zip(methods, values.T, plcc(values, quality), strict=True):
            for parameters in (4, 5):
                fit = fit_logistic(column, quality, parameters)
                assert fit.converged, (dataset, method, parameters)
                assert linear - 1e-12 <= fit.plcc <= 1, (dataset, method, parameters)
                fitted += 1
    assert fitted == 36
