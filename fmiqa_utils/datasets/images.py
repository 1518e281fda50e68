"""Reading one image from disk: whole, as 8-bit RGB, or not at all.

What a file stores is what is returned: no resizing, no colour profile applied, and no turn by an EXIF
orientation tag (the field's released procedures read the stored pixels too, and a distorted copy has
usually lost the tag that its reference still carries). Whatever has no single meaning as 8-bit RGB is an
error that says what to do about it.
"""

import hashlib
import io
import os
import re
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from fmiqa_utils.errors import InputError
from fmiqa_utils.files.regular import open_regular, why_unread

FORMATS = ("BMP", "PNG", "JPEG", "TIFF", "WEBP", "PPM", "GIF")
MAX_PIXELS = 89_478_485  # Pillow's own limit; a header that claims more is refused undecoded
MAX_BYTES = 2**29  # on disk; MAX_PIXELS take 342 MiB uncompressed, with an alpha channel
_MODES = {"1", "L", "P", "RGB", "LA", "PA", "RGBA"}
_UNDECODABLE = (OSError, ValueError, SyntaxError, EOFError, LookupError, struct.error, zlib.error)
_TOO_LARGE = f"claims more than {MAX_PIXELS:,} pixels and is not decoded: crop it or save it smaller."
_BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)


class FileFacts(NamedTuple):
    """What tells a changed file from an unchanged one without reading it."""

    size: int  # bytes
    mtime_ns: int


def file_facts(path: str | Path) -> FileFacts:
    """Size in bytes and time of last change in ns; raises InputError where there is no such file."""
    try:
        stat = os.stat(path)  # called a million times: four times as fast as Path.stat
    except (OSError, ValueError) as error:
        raise InputError(why_unread(path, error)) from error
    return FileFacts(stat.st_size, stat.st_mtime_ns)


def read_rgb(path: str | Path) -> np.ndarray:
    """The image as a writable uint8 array [H, W, 3].

    Grey, bilevel and palette images become RGB; an alpha channel is dropped if it is opaque throughout.
    Everything else raises InputError, one sentence with the file's name: missing or forbidden, no regular file,
    larger than `MAX_BYTES`, empty, truncated, not an image, several frames, more than 8 bits a channel, CMYK,
    transparency, more than `MAX_PIXELS`.
    """
    return _decode(_read_bytes(path), path)


def read_bytes_rgb(path: str | Path) -> tuple[np.ndarray, str]:
    """The image as in `read_rgb`, and the sha256 (hex) of the very bytes it was decoded from, in one read."""
    data = _read_bytes(path)
    return _decode(data, path), hashlib.sha256(data).hexdigest()


def read_size(path: str | Path) -> tuple[int, int]:
    """(height, width) in px from the file's header alone; raises InputError for what `read_rgb` would refuse by its header."""
    try:
        with open_regular(path, "an image", MAX_BYTES) as file:
            if not file.read(1):
                raise InputError(f"{path} is empty (0 bytes): copy it again from the original.")
            file.seek(0)
            image = _open(file, path)
            return image.height, image.width
    except OSError as error:
        raise InputError(why_unread(path, error)) from error


def _read_bytes(path: str | Path) -> bytes:
    try:
        with open_regular(path, "an image", MAX_BYTES) as file:
            data = file.read()
    except OSError as error:
        raise InputError(why_unread(path, error)) from error
    if not data:
        raise InputError(f"{path} is empty (0 bytes): copy it again from the original.")
    return data


def _decode(data: bytes, path: str | Path) -> np.ndarray:
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # other packages switch it on for the whole process
    image = _open(io.BytesIO(data), path)
    try:
        image.load()
    except _BOMB as error:
        raise InputError(f"{path} {_TOO_LARGE}") from error
    except _UNDECODABLE as error:
        raise InputError(f"{path} is damaged or cut short ({error}): copy it again.") from error
    return np.array(_without_alpha(image, path).convert("RGB"))  # a copy: torch wants writable memory


def _open(file: BinaryIO, path: str | Path) -> ImageFile.ImageFile:
    """The image with its header read; raises InputError for what has no single meaning as 8-bit RGB."""
    try:
        image = Image.open(file, formats=FORMATS)
        problem = _problem(image)
    except _BOMB as error:
        raise InputError(f"{path} {_TOO_LARGE}") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{path} is not an image that can be read ({', '.join(FORMATS)}).") from error
    except _UNDECODABLE as error:
        raise InputError(f"{path} is damaged or cut short ({error}): copy it again.") from error
    if problem is not None:
        raise InputError(f"{path} {problem}")
    return image


def _problem(image: ImageFile.ImageFile) -> str | None:
    """Why the file cannot become one frame of 8-bit RGB without a guess or a loss, from its header alone."""
    if image.width * image.height > MAX_PIXELS:
        return _TOO_LARGE
    if _deeper_than_8_bits(image):
        return "has more than 8 bits per channel: choose how its range maps to 0–255 and save it in 8 bits."
    if image.mode not in _MODES:
        return f"is a {image.mode} image, whose colours need a profile to be defined: save it as 8-bit sRGB."
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # in a camera's JPEG the other frames are previews
        return f"holds {frames} frames: save the one that is meant as a separate image."
    return None


def _deeper_than_8_bits(image: ImageFile.ImageFile) -> bool:
    """Pillow opens 16-bit colour as plain RGB and drops the low byte; only the tile's raw mode tells."""
    if image.mode.startswith(("I", "F")):
        return True
    for codec, _, _, args in image.tile:
        values = args if isinstance(args, tuple) else (args,)
        if codec.startswith("ppm") and isinstance(values[-1], int) and values[-1] > 255:  # its maximum value
            return True
        if any(isinstance(value, str) and re.search(r";16[BLNS]", value) for value in values):
            return True
    return False


def _without_alpha(image: Image.Image, path: str | Path) -> Image.Image:
    if not image.has_transparency_data:
        return image
    rgba = image.convert("RGBA")
    if rgba.getchannel("A").getextrema() != (255, 255):
        raise InputError(f"{path} has transparent pixels: flatten it onto the background that people saw.")
    return rgba
