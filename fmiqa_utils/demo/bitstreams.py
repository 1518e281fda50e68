"""Distortions of a coded image: JPEG, JPEG 2000, transmission errors of both, palettes, 8×8 DCT blocks.

All take an image [H, W, 3] in 0..255 and give one of the same size. Nothing touches the disk. What JPEG,
JPEG 2000 and the palette give is exact to the pixel for one build of Pillow, not across builds.
"""

import io
from collections.abc import Callable, Hashable, Iterator
from functools import lru_cache
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn, idctn

Pixels = NDArray[np.float32]

# Transmission errors strike a stream of high quality, so that they decide the PSNR.
JPEG_QUALITY = 95
JPEG_SEGMENT = 4  # coded units of 16×16 px between two restart markers
JPEG2000_RATIO = 4.0
JPEG2000_PROTECTED = (
    3  # packets: the coarsest resolution of three components, where one error spreads over the image
)


def jpeg(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """JPEG with quality 100 − strength, chroma halved both ways."""
    return _decode(_encode(image, "JPEG", quality=100 - round(strength)))


def jpeg2000(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """JPEG 2000 (9/7 wavelet) at a compression ratio of strength : 1."""
    return _decode(_jpeg2000_stream(image, strength))


def jpeg_errors(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """A JPEG stream with restart markers and `strength` flipped bits.

    A flipped bit changes the code words behind it and, since a block's mean is coded as a difference, the
    brightness or hue of all blocks up to the next restart marker.
    """
    stream = bytearray(_encode(image, "JPEG", quality=JPEG_QUALITY, restart_marker_blocks=JPEG_SEGMENT))
    scan = np.concatenate([np.arange(*segment) for segment in _jpeg_segments(stream)])
    for position, bit in _errors(scan, strength, rng):
        # A byte next to 0xFF is part of a marker or of its escape: changing it would break the framing.
        if 0xFF not in (stream[position - 1], stream[position], stream[position] ^ bit):
            stream[position] ^= bit
    return _decode(bytes(stream))


def jpeg2000_errors(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """A JPEG 2000 stream with `strength` flipped bits in the bodies of its packets.

    A flipped bit derails the arithmetic decoder to the end of its code block: ripples and blotches of a
    wavelet's shape. Headers and the coarsest resolution are spared, as under unequal error protection.
    """
    stream = bytearray(_jpeg2000_stream(image, JPEG2000_RATIO, codeblock_size=(16, 16), plt=True))
    bodies = islice(_jpeg2000_bodies(stream), JPEG2000_PROTECTED, None)
    for position, bit in _errors(np.concatenate([np.arange(*body) for body in bodies]), strength, rng):
        stream[position] ^= bit
    return _decode(bytes(stream))


def palette(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """256 − strength colours chosen by an octree, Floyd–Steinberg dither."""
    picture = _picture(image)
    colours = picture.quantize(256 - round(strength), method=Image.Quantize.FASTOCTREE)
    return _pixels(picture.quantize(palette=colours, dither=Image.Dither.FLOYDSTEINBERG))


def in_blocks(image: Pixels, change: Callable[[Pixels], Pixels], shift: tuple[int, int] = (0, 0)) -> Pixels:
    """`image` after `change` of its orthonormal 8×8 DCT [rows, columns, 3, 8, 8], grid moved by `shift`."""
    height, width, _ = image.shape
    (down, right), (bottom, left) = shift, (-(height + shift[0]) % 8, -(width + shift[1]) % 8)
    padded = np.pad(image, ((down, bottom), (right, left), (0, 0)), mode="symmetric")
    rows, columns = padded.shape[0] // 8, padded.shape[1] // 8
    blocks = padded.reshape(rows, 8, columns, 8, 3).transpose(0, 2, 4, 1, 3)
    blocks = idctn(change(dctn(blocks, axes=(3, 4), norm="ortho")), axes=(3, 4), norm="ortho")
    joined = blocks.transpose(0, 3, 1, 4, 2).reshape(padded.shape)
    return joined[down : down + height, right : right + width]


def _picture(image: Pixels) -> Image.Image:
    return Image.fromarray(np.clip(np.rint(image), 0, 255).astype(np.uint8))


def _pixels(picture: Image.Image) -> Pixels:
    return np.asarray(picture.convert("RGB"), dtype=np.float32)


def _encode(image: Pixels, kind: str, **options: Hashable) -> bytes:
    picture = _picture(image)
    return _encoded(picture.tobytes(), picture.size, kind, tuple(options.items()))


@lru_cache(maxsize=8)  # errors of many strengths strike the same stream
def _encoded(
    pixels: bytes, size: tuple[int, int], kind: str, options: tuple[tuple[str, Hashable], ...]
) -> bytes:
    buffer = io.BytesIO()
    Image.frombytes("RGB", size, pixels).save(buffer, kind, **dict(options))
    return buffer.getvalue()


def _decode(stream: bytes) -> Pixels:
    return _pixels(Image.open(io.BytesIO(stream)))


def _errors(positions: NDArray[np.int64], strength: float, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Byte position and flipped bit of `strength` errors; with the same seed, a larger strength only adds errors."""
    count = round(strength)
    bits = 1 << rng.integers(0, 8, size=len(positions))
    return list(zip(rng.permutation(positions)[:count].tolist(), bits[:count].tolist(), strict=True))


def _jpeg2000_stream(image: Pixels, ratio: float, **options: Hashable) -> bytes:
    options = {"quality_mode": "rates", "quality_layers": (float(ratio),), "irreversible": True, **options}
    return _encode(image, "JPEG2000", no_jp2=True, **options)


def _jpeg_segments(stream: bytearray) -> Iterator[tuple[int, int]]:
    """First and one-past-last byte of the coded data between markers, from the start of scan on."""
    scan = stream.index(b"\xff\xda")
    begin = scan + 2 + int.from_bytes(stream[scan + 2 : scan + 4], "big")
    for at in range(begin, len(stream) - 1):
        if stream[at] == 0xFF and stream[at + 1] != 0x00:  # FF00 is an escaped FF, anything else a marker
            yield begin, at
            begin = at + 2


def _jpeg2000_bodies(stream: bytearray) -> Iterator[tuple[int, int]]:
    """Each packet without its header, by the lengths in the PLT marker (ISO/IEC 15444-1, A.7.3).

    The length of a header is not in the stream. An eighth of the packet and 8 bytes more exceed the few
    bytes that each code block of 16×16 coefficients takes at 4 : 1.
    """
    plt = stream.index(b"\xff\x58")
    end = plt + 2 + int.from_bytes(stream[plt + 2 : plt + 4], "big")
    begin = stream.index(b"\xff\x93") + 2  # start of data
    length = 0
    for byte in stream[plt + 5 : end]:  # 7 bits of a length to a byte, the top bit set on all but its last
        length = length << 7 | byte & 0x7F
        if byte < 0x80:
            yield begin + min(length, length // 8 + 8), begin + length
            begin, length = begin + length, 0
