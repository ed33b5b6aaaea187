"""Kinds of image files beyond RGB of 8 bits: each is read as documented or refused by name."""

import struct
import zlib
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from trainables.data_sets.index import Entry
from trainables.data_sets.loaders.listing import FileDecoder

# Colour types of the PNG format by number of channels: grey, grey + alpha, RGB, RGB + alpha.
COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}

# The head of a PNG of a hundred thousand pixels a side.
HEAD = struct.pack(">4sIIBBBBB", b"IHDR", 99999, 99999, 8, 2, 0, 0, 0)
BOMB = b"".join(
    [
        b"\x89PNG\r\n\x1a\n\0\0\0\r",
        HEAD,
        struct.pack(">I", zlib.crc32(HEAD)),
        struct.pack(">I4sI", 0, b"IDAT", zlib.crc32(b"IDAT")),
    ]
)


def draw(*shape: int, kind: type = np.uint8) -> NDArray[np.uint8 | np.uint16]:
    values = np.random.default_rng(0).integers(0, np.iinfo(kind).max + 1, shape)
    return values.astype(kind)


def write_png16(path: Path, values: NDArray[np.uint8 | np.uint16]) -> None:
    """A PNG of 16 bits a channel, from its specification; Pillow writes grey ones only."""
    height, width, channels = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, COLOUR_TYPES[channels], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
            for name, body in chunks
        )
    )


def decode(path: Path, channels: int = 3) -> NDArray[np.int64]:
    """What the decoder reads, as numbers that can be subtracted."""
    pixels = FileDecoder(path.parent, channels)(Entry(path.name, 0, "train"))
    assert pixels.dtype == np.uint8 and pixels.shape[2] == channels
    return pixels.astype(np.int64)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_png_of_sixteen_bits_is_scaled_to_eight(channels: int, tmp_path: Path) -> None:
    values = draw(9, 7, channels, kind=np.uint16)
    write_png16(tmp_path / "x.png", values)
    colours = (values if channels > 2 else values[..., :1].repeat(3, axis=2))[..., :3]
    got = decode(tmp_path / "x.png")
    assert np.array_equal(got, colours >> 8)
    assert np.abs(got - colours / 257).max() < 1
    grey = decode(tmp_path / "x.png", 1)[..., 0]
    luminance = (colours / 257) @ [0.299, 0.587, 0.114]
    assert np.abs(grey - luminance).max() <= 1.5


@pytest.mark.parametrize(
    ("magic", "channels", "top"), [("P5", 1, 65535), ("P5", 1, 4095), ("P6", 3, 65535)]
)
def test_portable_maps_of_more_bits_are_scaled(
    magic: str, channels: int, top: int, tmp_path: Path
) -> None:
    values = draw(9, 7, channels, kind=np.uint16) & top  # a power of two, less one
    content = f"{magic}\n7 9\n{top}\n".encode() + values.astype(">u2").tobytes()
    (tmp_path / "x.ppm").write_bytes(content)
    assert np.abs(decode(tmp_path / "x.ppm") - values * (255 / top)).max() <= 1


@pytest.mark.parametrize(
    ("kind", "name"),
    [(np.uint16, "x.tif"), (np.int32, "x.tif"), (np.float32, "x.tif"), (np.float32, "x.pfm")],
)
def test_values_of_an_unknown_range_are_refused(kind: type, name: str, tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 5), 300, kind)).save(tmp_path / name)
    (tmp_path / name).rename(tmp_path / "x.tif")
    with pytest.raises(ValueError, match=r"x\.tif must .* must have 8 bits a channel, or 16 in a"):
        decode(tmp_path / "x.tif")


def test_palettes_bits_and_cmyk_give_their_colours(tmp_path: Path) -> None:
    image = Image.fromarray(draw(9, 7, 3)).quantize(16)
    image.save(tmp_path / "x.png")
    assert Image.open(tmp_path / "x.png").mode == "P"
    assert np.array_equal(decode(tmp_path / "x.png"), np.asarray(image.convert("RGB")))
    dots = draw(9, 7) > 100
    Image.fromarray(dots).save(tmp_path / "x.png")
    assert np.array_equal(decode(tmp_path / "x.png", 1)[..., 0], dots * 255)
    for colour in ((200, 30, 60), (255, 255, 255), (10, 120, 0)):
        Image.new("RGB", (16, 16), colour).convert("CMYK").save(tmp_path / "x.jpg", quality=95)
        assert Image.open(tmp_path / "x.jpg").mode == "CMYK"
        assert np.abs(decode(tmp_path / "x.jpg") - colour).max() <= 3


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_left_out(mode: str, tmp_path: Path) -> None:
    colours = draw(9, 7, 3 if mode == "RGBA" else 1)
    alpha = np.zeros((9, 7, 1), np.uint8)
    alpha[4:] = 255
    Image.fromarray(np.concatenate([colours, alpha], axis=2), mode).save(tmp_path / "x.png")
    assert np.array_equal(decode(tmp_path / "x.png"), np.broadcast_to(colours, (9, 7, 3)))


def test_an_orientation_is_not_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    Image.new("RGB", (12, 9)).save(tmp_path / "x.jpg", exif=exif)
    assert decode(tmp_path / "x.jpg").shape == (9, 12, 3)


def test_pixels_are_those_of_the_published_loader(tmp_path: Path) -> None:
    from trainables.backbones import timm_compat  # first, where torch has no CUDA

    assert timm_compat
    from torchvision.datasets.folder import pil_loader

    kinds = {"RGBA": draw(9, 7, 4), "LA": draw(9, 7, 2), "L": draw(9, 7), "RGB": draw(9, 7, 3)}
    for mode, values in kinds.items():
        Image.fromarray(values, mode).save(tmp_path / "x.png")
        assert np.array_equal(decode(tmp_path / "x.png"), pil_loader(str(tmp_path / "x.png")))


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
@pytest.mark.parametrize(
    "suffix",
    [".png", ".jpg", ".gif", ".bmp", ".tif", ".webp", ".ppm", ".tga", ".pcx", ".ico", ".jp2",
     ".avif", ".dds", ".blp", ".qoi"],
)  # fmt: skip
def test_whatever_is_in_a_file_the_error_names_it(suffix: str, tmp_path: Path) -> None:
    """Cut off, and with bytes of its head changed: read somehow, or refused by name."""
    features = pytest.importorskip("PIL.features")
    if suffix in (".avif", ".jp2") and not features.check(suffix[1:].replace("jp2", "jpg_2000")):
        pytest.skip(f"this Pillow does not read {suffix}")
    path = tmp_path / f"x{suffix}"
    image = Image.fromarray(draw(16, 16, 3))
    (image.quantize(16) if suffix == ".blp" else image).save(path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for number in range(60):
        content = bytearray(whole)
        if number < 20:
            del content[int(rng.integers(len(whole))) :]
        else:
            for at in rng.integers(0, min(len(whole), 200), 3):
                content[at] = rng.integers(256)
        path.write_bytes(content)
        try:
            decode(path)
        except ValueError as error:
            refused += 1
            assert str(error).startswith(f"{path} must be an image that can be read: ")
    assert refused


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "cannot identify"),
        # What Pillow raises for it is NotImplementedError.
        (struct.pack("<4s5I", b"DDS ", 124, 0, 4, 4, 0) + bytes(104), "Unknown pixel format flags"),
        (BOMB, "decompression bomb"),
    ],
)
def test_what_is_no_image_or_a_bomb_is_named(content: bytes, why: str, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(ValueError, match=rf"x\.png must be an image that can be read: .*{why}"):
        decode(tmp_path / "x.png")


@pytest.mark.parametrize(
    "kind", [RuntimeError, KeyError, struct.error, MemoryError, RecursionError]
)
def test_any_exception_of_pillow_names_the_file(
    kind: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.png").touch()
    monkeypatch.setattr(Image, "open", Mock(side_effect=kind()))
    with pytest.raises(ValueError, match=rf"x\.png must be .* read: {kind.__name__}\."):
        decode(tmp_path / "x.png")
