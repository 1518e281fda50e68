"""A backbone with the settings it scores with: windows go in, every number of a sweep comes out of one forward pass."""

import time
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from fmiqa_utils.backbones.catalogue import WINDOW
from fmiqa_utils.backbones.features import Features, concatenate
from fmiqa_utils.backbones.load import Backbone
from fmiqa_utils.backbones.windows import to_input
from fmiqa_utils.distances.forms import distances, embedding_cos
from fmiqa_utils.distances.table import USUAL_BASELINES, USUAL_DISTANCES
from fmiqa_utils.errors import InputError

BATCH = {"cpu": 8, "cuda": 128}  # windows in one forward
MOST_WORKERS = 16  # two decoded images per thread wait in memory, and photographs are large
Column = tuple[str, str, str]  # feature, distance, variant


@dataclass(frozen=True)
class Settings:
    """What changes a number, besides the backbone and the images."""

    distances: tuple[str, ...] = USUAL_DISTANCES
    variants: tuple[str, ...] = ("published",)
    # Of the published joint distances; l2, cos and corrected forms always have layer curves.
    layer_curves: bool = True
    small_images: str = "error"
    seed: int = 0  # of swd's directions
    baselines: tuple[str, ...] = USUAL_BASELINES


@dataclass
class Scorer:
    """A backbone with the settings it scores with, and the threads that decode images for it."""

    backbone: Backbone
    settings: Settings
    batch: int = 0  # windows in one forward; 0: by device
    workers: int = 0  # threads that decode; 0: as many as torch may use here, 2 to `MOST_WORKERS`
    columns: list[Column] = field(init=False)
    seconds: dict[str, float] = field(
        default_factory=lambda: {"decode": 0.0, "forward": 0.0, "distances": 0.0, "write": 0.0}
    )

    def __post_init__(self) -> None:
        self.device = self.backbone.mean.device
        self.batch = self.batch or BATCH.get(self.device.type, 8)
        self.workers = self.workers or min(max(2, torch.get_num_threads()), MOST_WORKERS)
        with torch.inference_mode():
            blank = self.backbone(torch.zeros(1, 3, WINDOW, WINDOW, device=self.device))
            self.columns = [c for c, _ in self.compare(blank, blank)]

    def compare(self, f: Features, g: Features) -> list[tuple[Column, Tensor]]:
        """Every number of B pairs of windows, as (column, [B])."""
        s = self.settings
        values = distances(
            s.distances,
            f.layers,
            g.layers,
            s.variants,
            num_prefix_tokens=f.num_prefix_tokens,
            skip_nan=f.cos_skips_nan,
            per_layer=s.layer_curves,
            seed=s.seed,
        )
        out: list[tuple[Column, Tensor]] = []
        for (name, variant), value in values.items():
            if value.joint is not None:
                out.append((("joint", name, variant), value.joint))
            out += [((str(i), name, variant), layer) for i, layer in enumerate(value.layers.unbind(1))]
        return [*out, (("embedding", "cos", "published"), embedding_cos(f.embedding, g.embedding))]

    def embed(self, windows: np.ndarray) -> Features:
        """uint8 [N, 224, 224, 3] → features; a batch too large for the device's memory is halved, and stays halved."""
        start = time.perf_counter()
        try:
            features = self.backbone(to_input(windows, self.device))
            self._synchronize()
        except torch.OutOfMemoryError:
            if len(windows) == 1:
                raise InputError(
                    f"one window of {self.backbone.name} does not fit into the device's memory."
                ) from None
            torch.cuda.empty_cache()
            half = len(windows) // 2
            self.batch = max(1, min(self.batch // 2, half))
            return concatenate([self.embed(windows[:half]), self.embed(windows[half:])])
        self.seconds["forward"] += time.perf_counter() - start
        return features

    def measure(self, f: Features, g: Features) -> np.ndarray:
        """float64 [B, K]: every column's value for B pairs of windows."""
        start = time.perf_counter()
        values = torch.stack([value for _, value in self.compare(f, g)], 1).double().cpu().numpy()
        self.seconds["distances"] += time.perf_counter() - start
        return values

    def _synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
