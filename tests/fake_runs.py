"""Runs made within milliseconds: their scores are planted, everything else is what extraction leaves on disk."""

from pathlib import Path

import nbformat
import numpy as np
import pandas as pd

from fmiqa_utils.datasets.tables import load_pairs
from fmiqa_utils.files.storage import write_atomically
from fmiqa_utils.paths import scores_root
from fmiqa_utils.scores.runs import Run, load_run, save_run
from fmiqa_utils.scores.shards import (
    SCORE_COLUMNS,
    labels_digest,
    pairs_bytes,
    shard_bytes,
    write_manifest,
    write_shard,
)
from fmiqa_utils.statistics.coefficients import srcc

BACKBONE = "timm:vit_tiny_patch16_224"
REFS, PER_REF = 4, 3


def write_table(folder: Path, direction: int = 1, name: str = "pairs.csv") -> Path:
    """A CSV of `REFS` × `PER_REF` pairs, whose labels rise (1) or fall (-1) with the quality, and files that stand for its images."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for r in range(REFS):
        for d in range(PER_REF):
            rows.append((f"r{r}.png", f"d{r}{d}.png", direction * (10.0 - d - r / 10)))
    for file in {f for ref, dist, _ in rows for f in (ref, dist)}:
        if not (folder / file).exists():
            (folder / file).write_bytes(b"an image")
    table = pd.DataFrame(rows, columns=["ref", "dist", "label"])
    temporary = folder / f".{name}"
    table.to_csv(temporary, index=False)
    temporary.rename(folder / name)
    return folder / name


def extract(
    table: Path, run: str, *, precision: str = "fp32", seed: int = 0, direction: str = "higher"
) -> pd.DataFrame:
    """Save `run` as an extraction of csv:`table` would: blocks, all layers and embedding of one backbone, and PSNR; returns the pairs."""
    pairs = load_pairs(f"csv:{table}", direction=direction)
    rng = np.random.default_rng(seed)
    level = pairs["dist"].str[2].astype(float)  # the distance grows with it, whatever the labels say
    columns = {
        (BACKBONE, "untrained", 0, "cos"): level + rng.normal(0, 0.3, len(pairs)),
        (BACKBONE, "untrained", 1, "cos"): level + rng.normal(0, 0.3, len(pairs)),
        (BACKBONE, "untrained", "joint", "cos"): level + rng.normal(0, 0.1, len(pairs)),
        (BACKBONE, "untrained", "embedding", "cos"): level + rng.normal(0, 1.0, len(pairs)),
        ("baseline", "none", "image", "psnr"): 40 - level,
    }
    rows = [
        ("", pair, backbone, weights, "none", "none", feature, distance, "published", value)
        for (backbone, weights, feature, distance), values in columns.items()
        for pair, value in zip(pairs["pair_id"], values, strict=True)
    ]
    dataset = str(pairs["dataset"].iloc[0])
    scores = pd.DataFrame(rows, columns=SCORE_COLUMNS).assign(dataset=dataset).astype({"feature": str})
    folder = scores_root() / "fake" / f"{run}-{precision}"
    shard = write_shard(folder, "r0", "0" * 64, shard_bytes(scores, {"failures": [], "images": {}}))
    name, data = pairs_bytes(pairs)
    write_atomically(folder / name, data)
    manifest = {
        "dataset": dataset,
        "backbone": BACKBONE,
        "weights": "untrained",
        "weights_sha256": "0" * 64,
        "normalize": "none",
        "precision": precision,
        "failures": 0,
        "label_kind": str(pairs["label_kind"].iloc[0]),
        "label_source": str(pairs["label_source"].iloc[0]),
        "labels_sha256": labels_digest(pairs),
        "shards": [shard.name],
        "pairs_table": name,
        "versions": {"fmiqa": "0"},
        "hardware": {"device": "cpu"},
    }
    write_manifest(folder, manifest)
    save_run(run, [folder], [manifest])
    return pairs


def sign_of(run: Run) -> str:
    """Whether the run's labels rise with the quality: what every chapter of a fake report says."""
    joint = run.scores[(run.scores["feature"] == "joint").to_numpy()]
    value = srcc(-joint[["value"]].to_numpy(float), run.pairs["quality"].to_numpy(float))[0]
    assert abs(value) > 0.5
    return "RISES" if value > 0 else "FALLS"


def source(path: Path, parameters: str = 'run: str = "demo"  # the run') -> Path:
    """A notebook with declared parameters, whose cells are never run."""
    first = nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=[first], metadata=kernel), path)
    return path


def say(path: Path, text: str) -> None:
    """An executed notebook whose one finding is `text`."""
    output = nbformat.v4.new_output("display_data", {"text/markdown": text, "text/plain": text})
    cell = nbformat.v4.new_code_cell("", metadata={"tags": ["finding"]}, outputs=[output])
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# C"), cell]), path)


def chapter(name: str, destination: Path, parameters: dict[str, object]) -> None:
    """What a chapter does, without a kernel: 01 extracts, the others read the run; all say how its labels run."""
    run = str(parameters["run"])
    if name == "01_extract.ipynb":
        extract(
            Path(str(parameters["dataset"]).removeprefix("csv:")), run, direction=str(parameters["direction"])
        )
    say(destination, f"{name[:2]} {sign_of(load_run(run))}")
