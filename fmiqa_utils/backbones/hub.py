"""Are pretrained weights in reach? Asked before a model is built, without torch or timm."""

import urllib.error
import urllib.request
from pathlib import Path

from fmiqa_utils.errors import InputError

HUB_PATIENCE = 4.0  # seconds; timm's own retries take about 50 on a machine without internet


def resolve_weights(weights: str, hub_id: str) -> str:
    """`weights` with "auto" decided: "pretrained" if the hub or its cache answers within seconds, else "untrained".

    Raises InputError for "pretrained" when neither answers, and for a file that does not exist.
    """
    if weights == "untrained":
        return weights
    if weights in ("auto", "pretrained"):
        if hub_has(hub_id):
            return "pretrained"
        if weights == "auto":
            return "untrained"
        raise InputError(
            f"the pretrained weights {hub_id or 'of this model'} are not in the hub's cache and the hub does not answer: "
            "connect to the internet, give a state-dict file with --weights FILE, or use --weights untrained."
        )
    if not Path(weights).is_file():
        raise InputError(
            f"there is no weights file {weights}: give a file, or pretrained, untrained or auto."
        )
    return weights


def hub_has(hub_id: str) -> bool:
    """True if the model `hub_id` is in the local cache or the hub answers for it within `HUB_PATIENCE` seconds."""
    import huggingface_hub as hub

    if not hub_id:
        return False
    files = (
        "model.safetensors",
        "open_clip_model.safetensors",
        "open_clip_pytorch_model.bin",
        "pytorch_model.bin",
    )
    if any(isinstance(hub.try_to_load_from_cache(hub_id, name), str) for name in files):
        return True
    if hub.constants.HF_HUB_OFFLINE:
        return False
    request = urllib.request.Request(
        f"{hub.constants.ENDPOINT}/{hub_id}/resolve/main/config.json", method="HEAD"
    )
    try:
        with urllib.request.urlopen(request, timeout=HUB_PATIENCE) as answer:
            return bool(answer.status < 400)
    except (urllib.error.URLError, TimeoutError, OSError):
        return False
