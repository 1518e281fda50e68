"""Reading images: what is accepted gives these pixels, the rest one sentence with the file's name."""

import hashlib
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from fmiqa_utils.datasets.images import MAX_BYTES, MAX_PIXELS, file_facts, read_bytes_rgb, read_rgb, read_size
from fmiqa_utils.errors import InputError

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
PNG_COLOUR_TYPE = {"grey": (0, 1), "rgb": (2, 3), "grey_alpha": (4, 2), "rgba": (6, 4)}


def png(width: int, height: int, depth: int, colour_type: int, raw: bytes) -> bytes:
    """A PNG file put together by hand: Pillow cannot write 16-bit colour or a false size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(kind, data) for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(raw)), (b"IEND", b""))
    )


@pytest.fixture
def rgb(tmp_path: Path) -> Path:
    Image.fromarray(PIXELS).save(tmp_path / "rgb.png")
    return tmp_path / "rgb.png"


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "ppm", "webp"])
def test_lossless_formats_come_back_exactly(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(PIXELS).save(path, **({"lossless": True} if suffix == "webp" else {}))
    image = read_rgb(path)
    np.testing.assert_array_equal(image, PIXELS)
    assert image.dtype == np.uint8
    assert image.flags.writeable


def test_bytes_and_hash_come_from_one_read(rgb: Path) -> None:
    image, digest = read_bytes_rgb(rgb)
    np.testing.assert_array_equal(image, PIXELS)
    assert digest == hashlib.sha256(rgb.read_bytes()).hexdigest()
    assert file_facts(rgb) == (rgb.stat().st_size, rgb.stat().st_mtime_ns)


def test_grey_and_palette_become_rgb(tmp_path: Path) -> None:
    grey = PIXELS[..., 0]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_rgb(tmp_path / "grey.png"), np.repeat(grey[..., None], 3, axis=2))

    bilevel = grey > 127
    Image.fromarray(bilevel).save(tmp_path / "bilevel.png")
    np.testing.assert_array_equal(read_rgb(tmp_path / "bilevel.png")[..., 1], np.where(bilevel, 255, 0))

    colours = np.array([[255, 0, 0], [0, 128, 7], [9, 9, 200]], dtype=np.uint8)
    index = (grey % 3).astype(np.uint8)
    palette = Image.fromarray(index, mode="P")
    palette.putpalette(colours.tobytes())
    for name in ("palette.png", "palette.gif", "palette.bmp"):
        palette.save(tmp_path / name)
        np.testing.assert_array_equal(read_rgb(tmp_path / name), colours[index])


def test_opaque_alpha_is_dropped_and_any_transparency_refused(tmp_path: Path) -> None:
    alpha = np.full((24, 40, 1), 255, dtype=np.uint8)
    Image.fromarray(np.concatenate([PIXELS, alpha], axis=2)).save(tmp_path / "opaque.png")
    np.testing.assert_array_equal(read_rgb(tmp_path / "opaque.png"), PIXELS)

    alpha[3, 5] = 254
    Image.fromarray(np.concatenate([PIXELS, alpha], axis=2)).save(tmp_path / "clear.png")
    Image.fromarray(PIXELS).save(tmp_path / "key.png", transparency=tuple(int(v) for v in PIXELS[0, 0]))
    for name in ("clear.png", "key.png"):
        with pytest.raises(InputError, match=f"{name} has transparent pixels"):
            read_rgb(tmp_path / name)


@pytest.mark.parametrize("kind", PNG_COLOUR_TYPE)
def test_sixteen_bit_png_is_refused_in_every_colour_type(tmp_path: Path, kind: str) -> None:
    colour_type, channels = PNG_COLOUR_TYPE[kind]
    path = tmp_path / f"{kind}.png"
    path.write_bytes(png(4, 4, 16, colour_type, (b"\0" + bytes(8 * channels)) * 4))
    with pytest.raises(InputError, match=rf"{kind}\.png has more than 8 bits .* save it in 8 bits"):
        read_rgb(path)


def test_other_deep_images_are_refused(tmp_path: Path) -> None:
    (tmp_path / "colour.ppm").write_bytes(b"P6 2 2 65535\n" + bytes(24))
    (tmp_path / "grey.pgm").write_bytes(b"P5 2 2 65535\n" + bytes(8))
    Image.fromarray(np.zeros((4, 4), dtype=np.uint16)).save(tmp_path / "grey.tiff")
    Image.fromarray(np.zeros((4, 4), dtype=np.float32)).save(tmp_path / "float.tiff")
    for name in ("colour.ppm", "grey.pgm", "grey.tiff", "float.tiff"):
        with pytest.raises(InputError, match=f"{name} has more than 8 bits"):
            read_rgb(tmp_path / name)


def test_cmyk_is_refused(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).convert("CMYK").save(tmp_path / "print.jpg")
    with pytest.raises(InputError, match=r"print\.jpg is a CMYK image, .* save it as 8-bit sRGB"):
        read_rgb(tmp_path / "print.jpg")


def test_orientation_tag_turns_nothing(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.fromarray(PIXELS).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(read_rgb(tmp_path / "turned.png"), PIXELS)


def test_several_frames_are_refused(tmp_path: Path) -> None:
    frames = [Image.fromarray(PIXELS), Image.fromarray(PIXELS[::-1].copy())]
    for name in ("pages.tiff", "moving.gif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        with pytest.raises(InputError, match=f"{name} holds 2 frames"):
            read_rgb(tmp_path / name)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tiff", "webp", "gif"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated_files_are_refused(
    tmp_path: Path, suffix: str, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)  # as another package may have left it
    path = tmp_path / f"cut.{suffix}"
    Image.fromarray(PIXELS).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(InputError, match=rf"cut\.{suffix} is (damaged or cut short|not an image)") as caught:
        read_rgb(path)
    assert "\n" not in str(caught.value)


def test_decompression_bombs_are_refused_undecoded(tmp_path: Path) -> None:
    wide = tmp_path / "bomb.png"
    wide.write_bytes(png(50_000, 50_000, 8, 2, b""))
    with pytest.raises(InputError, match=r"bomb\.png claims more than 89,478,485 pixels"):
        read_rgb(wide)
    just_over = tmp_path / "over.png"
    just_over.write_bytes(png(MAX_PIXELS + 1, 1, 1, 0, b""))
    with (
        pytest.warns(Image.DecompressionBombWarning),
        pytest.raises(InputError, match=r"over\.png claims more than 89,478,485 pixels"),
    ):
        read_rgb(just_over)


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.bmp").write_text("not an image\n" * 50)
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder.png").mkdir()
    cases = {
        "text.bmp": r"text\.bmp is not an image that can be read",
        "empty.png": r"empty\.png is empty \(0 bytes\)",
        "folder.png": r"folder\.png is a folder",
        "absent.png": r"absent\.png does not exist",
        "text.bmp/inner.png": r"inner\.png does not exist",
    }
    for name, sentence in cases.items():
        with pytest.raises(InputError, match=sentence):
            read_rgb(tmp_path / name)
    with pytest.raises(InputError, match=r"absent\.png does not exist"):
        file_facts(tmp_path / "absent.png")


def test_forbidden_file_is_refused(rgb: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() == 0:  # root reads everything: let the system call answer as it would for others

        def forbidden(*_: object) -> int:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(os, "open", forbidden)
    else:
        rgb.chmod(0)
    with pytest.raises(InputError, match=r"rgb\.png may not be read: give this user read permission"):
        read_rgb(rgb)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("read", [read_rgb, read_bytes_rgb, read_size])
def test_pipes_devices_and_huge_files_are_refused_before_they_are_read(
    tmp_path: Path, read: Callable[[Path], object]
) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with (tmp_path / "huge.bmp").open("wb") as file:
        file.truncate(MAX_BYTES + 1)  # sparse: takes no room
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "loop.png").symlink_to("loop.png")
    cases = {
        "pipe.png": "is a named pipe, not an image",
        "zero.png": "is a device, not an image",
        "huge.bmp": "has 512 MiB, and an image may have at most 512 MiB: name a smaller file",
        "loop.png": "cannot be read: Too many levels",
        "null\0.png": "cannot be read: embedded null byte",
    }
    for name, sentence in cases.items():
        with pytest.raises(InputError, match=sentence) as caught:
            read(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_the_largest_image_that_may_be_decoded_may_be_read() -> None:
    assert MAX_PIXELS * 4 < MAX_BYTES  # uncompressed, with an alpha channel
