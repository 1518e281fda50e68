"""Where a backbone's numbers come from: the hub, a local file, or a deterministic stand-in."""

import hashlib
import re
import sys
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fmiqa_utils.errors import InputError, first_line
from fmiqa_utils.files.regular import check_regular, open_regular

MAX_BYTES = 2**36  # of a weights file: 64 GiB
EMBEDDINGS = ("pos_embed", "cls_token", "reg_token", "positional_embedding", "class_embedding")
# Names of scales in timm and open_clip: one number, or one for each channel. At 0 a scale would switch off the branch that it
# multiplies, and a residual block would be the identity.
SCALES = re.compile(
    r"weight|running_var|gamma\w*|ls\d|alpha|gain|skipinit_gain|\w*scale|temperature|gating_param|weights\w*|v|A|D"
)
BOUNDS = {"input_min": -np.inf, "output_min": -np.inf, "input_max": np.inf, "output_max": np.inf}


def stand_in_weights(model: nn.Module, seed: int = 0) -> None:
    """Overwrite every float parameter and buffer with numbers that depend on its name, shape and `seed` alone.

    Matrices and kernels are normal with variance 1 / fan-in, embeddings normal with std 0.02, biases and running means 0, scales
    and running variances 1, clipping bounds infinite. So no block is the identity, whatever scales its residual branch.
    numpy's legacy generator is frozen, so the numbers are the same on every machine.
    """
    state = {
        name: torch.from_numpy(_stand_in(name, tuple(t.shape), seed)) if t.is_floating_point() else t
        for name, t in model.state_dict().items()
    }
    model.load_state_dict(state)


def _stand_in(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    last = name.rsplit(".", 1)[-1]
    if _is_scale(last, shape):
        return np.ones(shape, np.float32)
    if len(shape) >= 2 or last == "class_embedding":
        std = 0.02 if last in EMBEDDINGS else float(np.prod(shape[1:])) ** -0.5
        rng = np.random.RandomState((zlib.crc32(name.encode()) + seed) % 2**32)
        return (std * rng.standard_normal(shape)).astype(np.float32)
    return np.full(shape, BOUNDS.get(last, 0.0), np.float32)


def _is_scale(last: str, shape: tuple[int, ...]) -> bool:
    """True for `last` in SCALES with at most one axis longer than 1; a "weight" of two axes or more is a matrix or a kernel."""
    per_channel = sum(n > 1 for n in shape) <= 1
    return per_channel and SCALES.fullmatch(last) is not None and not (last == "weight" and len(shape) > 1)


def adopt_weights(model: nn.Module, file: str) -> str:
    """Load the state-dict `file` into `model`; returns the label "NAME#sha8" that goes into every row.

    Keys are those of timm or open_clip; open_clip's may have the "visual." prefix. A classifier that the model does not have
    is left out. Raises InputError for missing and unexpected keys, for shapes that differ, and for a tensor that cannot be a
    weight: integers or booleans in place of real numbers, NaN, infinity, another index buffer than the model's.
    """
    state = _strip(read_state(file))
    expected = model.state_dict()
    classifier = _classifier(model)
    unexpected = [k for k in state if k not in expected and not k.startswith(classifier)]
    missing = [k for k in expected if k not in state and not k.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise InputError(
            f"{Path(file).name} does not fit {type(model).__name__}: missing {_few(missing)}; unexpected {_few(unexpected)}."
        )
    state = _resample({k: v for k, v in state.items() if k in expected}, model)
    wrong = [k for k in state if state[k].shape != expected[k].shape]
    if wrong:
        shapes = ", ".join(f"{k} is {list(state[k].shape)}, not {list(expected[k].shape)}" for k in wrong[:3])
        raise InputError(
            f"{Path(file).name} does not fit {type(model).__name__}: {len(wrong)} shapes differ ({shapes})."
        )
    for name, tensor in state.items():
        if fault := _fault(name, tensor, expected[name]):
            raise InputError(f"{Path(file).name}: {name} {fault}.")
    model.load_state_dict(state, strict=False)
    with open_regular(file, "a weights file", MAX_BYTES) as opened:
        return f"{Path(file).name}#{hashlib.file_digest(opened, 'sha256').hexdigest()[:8]}"


def read_state(file: str) -> dict[str, Tensor]:
    """The state dict in a .safetensors, .pth, .pt or .bin file; nothing in the file is executed.

    Raises InputError for a damaged file, one that holds anything but tensors by name, a tensor without a dense array of
    values (meta, sparse or nested), and if `file` is not a regular file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    check_regular(file, "a weights file", MAX_BYTES)
    try:
        if file.endswith(".safetensors"):
            return load_file(file)
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise InputError(
            f"{Path(file).name} is not a readable weights file ({first_line(error)[:160]})."
        ) from error
    except Exception as error:  # pickle.UnpicklingError and similar: anything torch refuses to unpickle
        raise InputError(
            f"{Path(file).name} holds more than tensors, and loading it would run its code: save its state_dict() instead."
        ) from error
    for wrapper in ("state_dict", "model", "teacher"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError(f"{Path(file).name} is not a state dict (tensors by name).")
    for name, tensor in state.items():
        if not isinstance(name, str):
            raise InputError(
                f"{Path(file).name} names a tensor {name!r}: the keys of a state dict must be text."
            )
        if tensor.is_meta or tensor.is_nested or tensor.layout != torch.strided:
            kind = "meta" if tensor.is_meta else "nested" if tensor.is_nested else "sparse"
            raise InputError(
                f"{Path(file).name}: {name} is a {kind} tensor: save a dense one with its values."
            )
    return state


def _fault(name: str, given: Tensor, expected: Tensor) -> str:
    """Why `given` cannot replace the model's tensor `expected` of the same shape; "" if it can."""
    if expected.is_floating_point():
        if not given.is_floating_point():
            return f"is {_dtype(given)}, where real numbers belong: save the weights in fp32, fp16 or bf16"
        cast = given.to(expected.dtype)
        if not (cast.isfinite() | (cast == expected)).all():  # a bound in the model may be infinite
            return "holds NaN or infinite values: the file is damaged, or its training went wrong"
    elif given.dtype == torch.bool or given.is_floating_point() or given.is_complex():
        if given.dtype != expected.dtype:
            return f"is {_dtype(given)}, where {_dtype(expected)} belongs"
    elif not name.endswith("num_batches_tracked") and not torch.equal(given.to(expected.dtype), expected):
        return "is an index that differs from the model's"
    return ""


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def state_sha256(model: nn.Module) -> str:
    """sha256 over the names and values of all parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _strip(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Keys without "module."; of a whole CLIP model only the image tower, without "visual."."""
    state = {k.removeprefix("module."): v for k, v in state.items()}
    if any(k.startswith("visual.") for k in state):
        state = {k.removeprefix("visual."): v for k, v in state.items() if k.startswith("visual.")}
    return state


def _classifier(model: nn.Module) -> tuple[str, ...]:
    names = getattr(model, "pretrained_cfg", {}).get("classifier", ())
    return tuple(f"{n}." for n in ([names] if isinstance(names, str) else names or ())) or ("\0",)


def _resample(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Position embeddings of another input size, resampled by timm the way it does for its own files."""
    expected = model.state_dict()
    resample = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if (
        resample is None
        or "pos_embed" not in state
        or state["pos_embed"].shape == expected["pos_embed"].shape
    ):
        return state
    try:
        return dict(resample(state, model))
    except (RuntimeError, ValueError, IndexError, AssertionError) as error:
        shapes = f"{list(state['pos_embed'].shape)}, not {list(expected['pos_embed'].shape)}"
        raise InputError(
            f"pos_embed is {shapes}, and cannot be resampled ({first_line(error)[:160]})."
        ) from error


def _few(keys: list[str]) -> str:
    return f"{len(keys)} keys ({', '.join(keys[:4])}{', …' if len(keys) > 4 else ''})" if keys else "none"
