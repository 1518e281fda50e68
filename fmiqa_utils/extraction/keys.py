"""What the scores of a run depend on: everything here is in a shard's key, so that a change of it makes the shard anew.

Not in the key: labels and everything else that a pairs table says of its pairs but their names (a run has its labels in its manifest), the
engine, the device, the number of windows in a batch. Images are not in the key either: a shard notes the size, time and sha256 of each.
"""

from dataclasses import asdict
from importlib.metadata import version

from PIL import features as codecs

from fmiqa_utils.backbones.catalogue import WINDOW
from fmiqa_utils.backbones.features import FEATURES_VERSION
from fmiqa_utils.backbones.windows import STRIDE, WINDOWS_VERSION
from fmiqa_utils.datasets.images import DECODING_VERSION
from fmiqa_utils.datasets.transforms import TRANSFORMS_VERSION
from fmiqa_utils.distances.baselines import BASELINES_VERSION, THROUGH_PYIQA
from fmiqa_utils.distances.forms import DISTANCES_VERSION
from fmiqa_utils.extraction.scorer import Scorer
from fmiqa_utils.scores.shards import digest

IDENTITY = ["dataset", "pair_id", "ref", "dist"]  # what of a pairs table is in the key of a chunk

# Raised by hand when a stage gives other numbers; tests/test_versions.py notices when that was forgotten.
STAGES = {
    "decoding": DECODING_VERSION,
    "windows": WINDOWS_VERSION,
    "transforms": TRANSFORMS_VERSION,
    "features": FEATURES_VERSION,
    "distances": DISTANCES_VERSION,
    "baselines": BASELINES_VERSION,
}
LIBRARIES = ("torch", "pillow", "scikit-image")  # beside the one that the backbone comes from


def run_key(scorer: Scorer) -> str:
    """sha256 of the settings, the backbone and its weights, the versions of every stage and of the libraries that compute."""
    b = scorer.backbone
    return digest(
        asdict(scorer.settings),
        b.name,
        b.weights_sha256,
        b.normalize,
        b.precision,
        [WINDOW, STRIDE],
        STAGES,
        library_versions(b.info.source, scorer.settings.baselines),
    )


def library_versions(source: str, baselines: tuple[str, ...]) -> dict[str, str]:
    """Major and minor versions of what decodes, embeds and compares: a patch release moves no number."""
    names = [*LIBRARIES, {"timm": "timm", "openclip": "open_clip_torch"}[source]]
    names += ["pyiqa"] if set(baselines) & set(THROUGH_PYIQA) else []
    found = {name: ".".join(version(name).split(".")[:2]) for name in names}
    return found | {"jpeg": codecs.version("jpg") or ""}
