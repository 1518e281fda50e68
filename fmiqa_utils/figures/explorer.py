"""The Explorer: one call in a notebook to look at any pair of a run through any block of its backbones."""

import html
import io
from collections import OrderedDict
from typing import Any

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from fmiqa_utils import figures
from fmiqa_utils.backbones.device import pick_device
from fmiqa_utils.backbones.load import load_backbone
from fmiqa_utils.datasets.images import read_rgb
from fmiqa_utils.distances.metric import FeatureDistance
from fmiqa_utils.distances.table import DISTANCES, map_kind, measure_name
from fmiqa_utils.errors import InputError
from fmiqa_utils.figures.explorer_view import pair_view
from fmiqa_utils.scores.names import GROUP, Key, key_of, series_names
from fmiqa_utils.scores.run_names import known_runs
from fmiqa_utils.scores.runs import load_run

KEPT = 16  # number of pairs with maps kept in memory
ANY = "any"


def explore(run: str = "demo", *, device: str = "auto") -> widgets.VBox:
    """The Explorer for a saved run, as a widget to display.

    Dropdowns and sliders choose run, reference, distortion, level, backbone, block and distance. Raises InputError for an unknown run.

    >>> explore("own")
    VBox(...)
    """
    return Explorer(run, device=device).view


class Explorer:
    """Controls and picture of `explore`; `view` is the widget, `controls` the inputs by name."""

    def __init__(self, run: str = "demo", *, device: str = "auto") -> None:
        figures.use_style()
        self.device = pick_device(device)
        self._maps: OrderedDict[tuple[str, ...], dict[str, np.ndarray]] = OrderedDict()
        self._metrics: dict[tuple[str, ...], FeatureDistance] = {}
        self._filling = False
        names = known_runs()
        self.data = load_run(run)
        choose = {"style": {"description_width": "80px"}, "layout": widgets.Layout(width="320px")}
        self.controls: dict[str, Any] = {
            "run": widgets.Dropdown(options=names, value=self.data.name, description="run", **choose),
            "ref": widgets.Dropdown(description="reference", **choose),
            "distortion": widgets.Dropdown(description="distortion", **choose),
            "pair": widgets.Dropdown(description="level", **choose),
            "backbone": widgets.Dropdown(description="backbone", **choose),
            "distance": widgets.Dropdown(description="distance", **choose),
            "layer": widgets.IntSlider(description="block", continuous_update=False, **choose),
            "same_scale": widgets.Checkbox(description="one colour scale for all blocks", indent=False),
        }
        self.image = widgets.Image(format="png", layout=widgets.Layout(max_width="100%"))
        self.message = widgets.HTML()
        self._fill_run()
        for name, control in self.controls.items():
            control.observe(lambda _, n=name: self._changed(n), "value")
        panel = widgets.GridBox(
            list(self.controls.values()),
            layout=widgets.Layout(grid_template_columns="repeat(auto-fit, minmax(320px, 1fr))"),
        )
        self.view = widgets.VBox([self.message, panel, self.image])
        self.draw()

    @property
    def pair(self) -> pd.Series:
        """The row of the pairs table that is shown."""
        return self.data.pairs.set_index("pair_id").loc[self.controls["pair"].value]

    def draw(self) -> None:
        """Draw the chosen pair again."""
        c = {name: control.value for name, control in self.controls.items()}
        manifest = next(m for m in self.data.manifests if _series(m) == c["backbone"])
        notes: list[str] = []
        images, maps = self._images(notes), None
        if images is not None:
            maps = self._pair_maps(manifest, images, c["distance"], notes)
        figure = pair_view(
            images,
            maps,
            self._curves(c["backbone"], c["distance"]),
            self.data.pairs.set_index("pair_id")["quality"],
            c["pair"],
            c["layer"],
            backbone=manifest["backbone"],
            distance=c["distance"],
            same_scale=c["same_scale"],
        )
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110)
        plt.close(figure)
        self.image.value = buffer.getvalue()
        failed = self.data.failures[self.data.failures["pair_id"] == c["pair"]]
        notes += [f"This pair could not be scored: {reason}" for reason in failed["reason"].unique()]
        notes.append(f"label {self.pair['label']:.3g} ({self.pair['label_kind']}), {c['pair']}")
        self.message.value = _as_html(self.data.warning if manifest["weights"] == "untrained" else "", notes)

    def _changed(self, name: str) -> None:
        """Refill what depends on the control that changed, then draw once."""
        if self._filling:
            return
        if name == "run":
            self.data = load_run(self.controls["run"].value)
            self._fill_run()
        elif name in ("ref", "distortion"):
            self._fill_pairs(new_ref=name == "ref")
        elif name == "backbone":
            self._fill_backbone()
        self.draw()

    def _fill_run(self) -> None:
        self._set("ref", [(str(r).rsplit("/", 1)[-1], r) for r in self.data.pairs["ref"].unique()])
        self._fill_pairs(new_ref=True)
        names = series_names(pd.DataFrame(self.data.manifests))
        self._set("backbone", [(names[_series(m)], _series(m)) for m in self.data.manifests])
        self._fill_backbone()

    def _fill_pairs(self, *, new_ref: bool) -> None:
        pairs = self.data.pairs[self.data.pairs["ref"] == self.controls["ref"].value]
        if new_ref:
            self._set("distortion", [str(d) or ANY for d in pairs["distortion"].fillna("").unique()])
        distortion = self.controls["distortion"].value
        pairs = pairs[pairs["distortion"].fillna("").astype(str).replace("", ANY) == distortion]
        level = pairs["level"].astype(str).where(pairs["level"].notna(), pairs["pair_id"])
        self._set("pair", list(zip(level, pairs["pair_id"], strict=True)))

    def _fill_backbone(self) -> None:
        scores = self._blocks(self.controls["backbone"].value)
        self._set("distance", list(scores["distance"].unique()))
        with_slider = self.controls["layer"]
        self._filling = True
        with_slider.max = int(max(scores["feature"]))
        self._filling = False

    def _set(self, name: str, options: list[Any]) -> None:
        """Set new options for a control; its value stays if it is still one of them."""
        control, before = self.controls[name], self.controls[name].value
        values = [o[1] if isinstance(o, tuple) else o for o in options]
        self._filling = True
        control.options = options
        control.value = before if before in values else values[0]
        self._filling = False

    def _blocks(self, series: Key) -> pd.DataFrame:
        s = self.data.scores
        same = np.logical_and.reduce([s[name] == value for name, value in zip(GROUP, series, strict=True)])
        rows = s[same & (s["transform"] == "none")]
        rows = rows[rows["feature"].map(lambda f: isinstance(f, int)).astype(bool)]
        forms = set(rows["variant"])
        return rows[rows["variant"] == ("published" if "published" in forms else min(forms))]

    def _curves(self, series: Key, distance: str) -> pd.DataFrame:
        blocks = self._blocks(series)
        return blocks[blocks["distance"] == distance].pivot(
            index="pair_id", columns="feature", values="value"
        )

    def _images(self, notes: list[str]) -> tuple[np.ndarray, np.ndarray] | None:
        try:
            return read_rgb(self.pair["ref_path"]), read_rgb(self.pair["dist_path"])
        except InputError as error:
            notes.append(
                f"The images of {self.data.dataset} cannot be shown: {error} Curve and scatter come from the scores."
            )
            return None

    def _pair_maps(
        self, manifest: dict[str, Any], images: tuple[np.ndarray, np.ndarray], distance: str, notes: list[str]
    ) -> np.ndarray | None:
        """[L, H, W] of the pair, from memory if it is there; None, with a note, if the model cannot be loaded."""
        kind = map_kind(distance)
        if not DISTANCES[distance].map:
            notes.append(
                f"{measure_name(distance)} has no value per position: the map shows the cosine distance."
            )
        key = (self.data.name, *_model_key(manifest), str(self.pair.name))
        if key not in self._maps:
            try:
                ref, dist = (torch.from_numpy(i).permute(2, 0, 1)[None].to(self.device) / 255 for i in images)
                maps_by_kind = self._metric(manifest).maps_by_kind(dist, ref)
            except InputError as error:
                notes.append(f"There is no map: {error}")
                return None
            self._maps[key] = {name: maps[0].cpu().numpy() for name, maps in maps_by_kind.items()}
            if len(self._maps) > KEPT:
                self._maps.popitem(last=False)
        self._maps.move_to_end(key)
        return self._maps[key][kind]

    def _metric(self, manifest: dict[str, Any]) -> FeatureDistance:
        key = _model_key(manifest)
        if key not in self._metrics:
            if "#" in manifest["weights"]:
                raise InputError(
                    f"the run records only the name and hash of the weights file {manifest['weights']}, not its path."
                )
            model = load_backbone(*key[:2], normalize=key[2], precision=key[3], device=self.device)
            self._metrics[key] = FeatureDistance(model, distance="cos")
        return self._metrics[key]


def _as_html(warning: str, notes: list[str]) -> str:
    """Lines of plain text for an HTML widget, the warning first and in red; markup in file names is escaped."""
    lines = [html.escape(note) for note in notes]
    if warning:
        lines.insert(0, f"<strong style='color:#b00020'>{html.escape(warning)}</strong>")
    return "<br>".join(lines)


def _model_key(manifest: dict[str, Any]) -> tuple[str, str, str, str]:
    return manifest["backbone"], manifest["weights"], manifest["normalize"], manifest["precision"]


def _series(manifest: dict[str, Any]) -> Key:
    return key_of(manifest[name] for name in GROUP)
