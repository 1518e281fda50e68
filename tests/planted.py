"""Runs whose scores are known by construction, for the sentences that are computed from them."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from fmiqa_utils.scores.runs import Run
from fmiqa_utils.scores.shards import FAILURE_COLUMNS, SCORE_COLUMNS

BACKBONE = "timm:vit_tiny_patch16_224"
Column = tuple[object, str, str]  # feature, distance, variant


def noisy(quality: np.ndarray, amount: float, seed: int) -> np.ndarray:
    """A distance that falls with `quality`, with noise of `amount` standard deviations of it."""
    return -quality + amount * quality.std() * np.random.default_rng(seed).normal(size=len(quality))


def quality(refs: int = 8, per_ref: int = 6) -> np.ndarray:
    """`per_ref` levels in each of `refs` references."""
    return np.tile(np.arange(per_ref, 0, -1.0), refs)


def planted(
    columns: Mapping[Column, np.ndarray],
    *,
    labels: np.ndarray,
    refs: int,
    others: Mapping[tuple[str, str, str], Mapping[Column, np.ndarray]] | None = None,
    failures: Mapping[str, str] | None = None,
) -> Run:
    """A run of one untrained backbone, and of `others` by (backbone, weights, normalize).

    columns: distances by (feature, distance, variant), in the order of `labels`; feature "image" holds baselines, as they are.
    failures: pair → reason; their values become NaN.
    """
    ids = [f"p{i:03}" for i in range(len(labels))]
    folder = "data/planted"
    pairs = pd.DataFrame(
        {
            "dataset": "planted",
            "pair_id": ids,
            "ref": np.repeat([f"r{i}" for i in range(refs)], len(labels) // refs),
            "ref_path": [f"{folder}/ref_{i}.png" for i in ids],
            "dist_path": [f"{folder}/dist_{i}.png" for i in ids],
            "label": labels,
            "label_kind": "mos",
            "quality": labels,
        }
    )
    everything = {(BACKBONE, "untrained", "none"): columns, **(others or {})}
    lost = failures or {}
    rows = [
        (
            "planted",
            pair,
            *(("baseline", "none", "none") if key[0] == "image" else group),
            "none",
            *key,
            value,
        )
        for group, own in everything.items()
        for key, values in own.items()
        for pair, value in zip(ids, values, strict=True)
    ]
    scores = pd.DataFrame(rows, columns=SCORE_COLUMNS)
    scores["value"] = scores["value"].mask(scores["pair_id"].isin(list(lost)))
    failed = [(p, "none", f"dist_{p}.png", reason) for p, reason in lost.items()]
    return Run(
        "planted", scores, pairs, pd.DataFrame(failed, columns=FAILURE_COLUMNS), _manifests(everything, lost)
    )


def _manifests(groups: Mapping[tuple[str, str, str], object], lost: Mapping[str, str]) -> list[dict]:
    settings = {
        "distances": ["cos"],
        "variants": ["published"],
        "baselines": ["psnr", "ssim"],
        "small_images": "error",
    }
    return [
        {
            "dataset": "planted",
            "backbone": backbone,
            "weights": weights,
            "normalize": normalize,
            "precision": "fp32",
            "failures": len(lost),
            "label_kind": "mos",
            "settings": settings,
        }
        for backbone, weights, normalize in groups
    ]


def usual(
    labels: np.ndarray, block: float, embedding: float, psnr: float, ssim: float
) -> dict[Column, np.ndarray]:
    """Two blocks, the better one second, all layers together, the embedding, PSNR and SSIM; amounts of noise, 0: perfect."""
    return {
        (0, "cos", "published"): noisy(labels, block + 2, 1),
        (1, "cos", "published"): noisy(labels, block, 2),
        ("joint", "cos", "published"): noisy(labels, block + 0.5, 3),
        ("embedding", "cos", "published"): noisy(labels, embedding, 4),
        ("image", "psnr", "published"): -noisy(labels, psnr, 5),
        ("image", "ssim", "published"): -noisy(labels, ssim, 6),
    }
