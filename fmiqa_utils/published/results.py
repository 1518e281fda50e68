"""The published results: what each method's name means, how well each agrees with people, and the packaged tables."""

import re
from collections.abc import Callable
from importlib.resources import files
from typing import NamedTuple

import numpy as np
import pandas as pd

from fmiqa_utils.published.files import Published, read_published
from fmiqa_utils.statistics.coefficients import FloatArray, krcc, plcc, srcc
from fmiqa_utils.statistics.logistic import fit_logistic
from fmiqa_utils.statistics.within_references import mean_over_refs, srcc_within

__all__ = ["Method", "Published", "aggregate", "oriented", "parse_method", "published_correlations"]
__all__ += ["moved_table", "published_table", "read_published"]

SOURCE = "arXiv 2409.07650; computed from the authors' released per-image scores"
DECIMALS = 6  # of the packaged table
CORRELATIONS = ["srcc", "plcc", "plcc_fit4", "plcc_fit5", "krcc", "srcc_within"]

# Model name in the released files → (backbone here, colour family). The backbone is "" where its weights are not offered here.
MODELS = {
    "dinov1": ("dino_vitb16", "dino"),
    "dinov2": ("dinov2_vitb14", "dinov2"),
    "clip_vitb32": ("clip_vitb32", "clip"),
    "clip_rn50": ("clip_rn50", "clip"),
    "openclip_convnext_base": ("openclip_convnext_base_w", "convnext"),
    "imagenet_vit": ("timm:vit_base_patch16_224.orig_in21k_ft_in1k", "imagenet"),
    "openclip_vitb32_laion_tecoa4": ("", "other"),
    "openclip_convnext_laion_tecoa4": ("", "other"),
}
NAMES = {
    "dinov1": "DINOv1 ViT-B/16",
    "dinov2": "DINOv2 ViT-B/14",
    "clip_vitb32": "CLIP ViT-B/32",
    "clip_rn50": "CLIP RN50",
    "openclip_convnext_base": "OpenCLIP ConvNeXt-B",
    "imagenet_vit": "ImageNet ViT-B/16",
    "openclip_vitb32_laion_tecoa4": "OpenCLIP ViT-B/32, TeCoA",
    "openclip_convnext_laion_tecoa4": "OpenCLIP ConvNeXt-B, TeCoA",
    "psnr": "PSNR",
    "fsim": "FSIM",
    "msssim": "MS-SSIM",
    "lpips": "LPIPS-Alex",
    "lpips_vgg": "LPIPS-VGG",
    "lpips_vgg_kadid": "LPIPS-VGG (KADID)",
    "stlpips_alex": "ST-LPIPS-Alex",
    "stlpips_vgg": "ST-LPIPS-VGG",
    "stlpips_vgg_kadid": "ST-LPIPS-VGG (KADID)",
    "dists": "DISTS",
}
STORED_AS_QUALITY = frozenset({"psnr"})  # fsim and msssim are stored as (1 − metric) / 2

_NAME = re.compile(r"(?P<method>.+?)(?:_(?P<transform>(?:tra|sca|rot)-\d+(?:\.\d+)?))?")
_FOUNDATION = re.compile(
    rf"(?P<embed>embed_)?(?P<model>{'|'.join(MODELS)})_(?P<distance>l2|cos|skld|jsd|wsd|swd)(?:_copy)?"
)


class Method(NamedTuple):
    """What a method's name in the released files says."""

    method: str  # without the transform
    kind: str  # "intermediate", "embedding" or "baseline"
    family: str  # of `figures.family_colour`
    model: str  # in print
    backbone: str  # its name here, "" if it is not offered
    distance: str  # "" for baselines
    transform: str  # "none", "tra-1", …


def parse_method(name: str) -> Method:
    """ "embed_dinov1_cos_tra-1" → the parts of the name; any name without a known model is a baseline."""
    parts = _NAME.fullmatch(name)
    method, transform = (parts["method"], parts["transform"] or "none") if parts else (name, "none")
    known = _FOUNDATION.fullmatch(method)
    if known is None:
        return Method(method, "baseline", "baseline", NAMES.get(method, method), "", "", transform)
    backbone, family = MODELS[known["model"]]
    kind = "embedding" if known["embed"] else "intermediate"
    return Method(method, kind, family, NAMES[known["model"]], backbone, known["distance"], transform)


def oriented(table: pd.DataFrame, names: list[str]) -> FloatArray:
    """Predictions [n, k] of a table of `Published`, with signs for which larger means better."""
    signs = [1 if parse_method(name).method in STORED_AS_QUALITY else -1 for name in names]
    return table[names].to_numpy(dtype=float) * np.array(signs, dtype=float)


def published_correlations(
    published: Published, *, fit: bool = True, progress: Callable[[str, int, int], object] | None = None
) -> pd.DataFrame:
    """Signed agreement with people of every published method: one row per dataset, method and transform.

    Columns: dataset, the fields of `Method`, n, n_refs, `CORRELATIONS`: SRCC, raw PLCC, PLCC after logistics with 4 and 5
    parameters (NaN with `fit=False`, which saves 2 s per method on PIPAL), KRCC (τ_b), mean SRCC within references.
    Positive means agreement. `progress(dataset, done, total)` counts fitted methods.
    """
    blocks = []
    for dataset, table in published.tables.items():
        names = published.methods(dataset)
        predictions, quality = oriented(table, names), table["quality"].to_numpy(dtype=float)
        refs = table["ref"].str.lower().to_numpy()
        block = pd.DataFrame([parse_method(name) for name in names]).assign(
            dataset=dataset,
            n=len(table),
            n_refs=len(set(refs)),
            srcc=srcc(predictions, quality),
            plcc=plcc(predictions, quality),
            krcc=krcc(predictions, quality),
            srcc_within=mean_over_refs(srcc_within(predictions, quality, refs))[0],
        )
        for k, column in enumerate(predictions.T if fit else ()):
            block.loc[k, "plcc_fit4"] = fit_logistic(column, quality, 4).plcc
            block.loc[k, "plcc_fit5"] = fit_logistic(column, quality, 5).plcc
            if progress:
                progress(dataset, k + 1, len(names))
        blocks.append(block)
    columns = ["dataset", *Method._fields, "n", "n_refs", *CORRELATIONS]
    return pd.concat(blocks, ignore_index=True).reindex(columns=columns)


def moved_table(correlations: pd.DataFrame, statistic: str = "srcc") -> pd.DataFrame:
    """`statistic` without and with each transform: dataset, method, kind, family, model, distance, then a column per
    transform; only methods measured both without and with a transform. `correlations`: from `published_correlations`."""
    index = ["dataset", "method", "kind", "family", "model", "distance"]
    wide = correlations.pivot(index=index, columns="transform", values=statistic)
    moved = [name for name in wide if name != "none"]
    wide = wide.reindex(columns=["none", *moved])
    both = wide["none"].notna() & wide[moved].notna().any(axis=1)
    return wide[both].rename_axis(columns=None).reset_index()


def aggregate(published: Published, *, fit: bool = True) -> pd.DataFrame:
    """The packaged table: `published_correlations` to `DECIMALS` decimals, with its source.

    Made by `aggregate(read_published(FOLDER)).to_csv("fmiqa_utils/published/tables/published.csv", index=False)`.
    """
    return published_correlations(published, fit=fit).round(DECIMALS).assign(source=SOURCE)


def published_table() -> pd.DataFrame:
    """The packaged published results: the columns of `published_correlations`, and source."""
    with (files("fmiqa_utils.published") / "tables" / "published.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file, keep_default_na=False, na_values={name: [""] for name in CORRELATIONS})


def resampling_table() -> pd.DataFrame:
    """The packaged intervals of intermediate features against the embedding, over images and over references: the columns of
    `published.figures.resampling_intervals`, and source."""
    with (files("fmiqa_utils.published") / "tables" / "resampling.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file)
