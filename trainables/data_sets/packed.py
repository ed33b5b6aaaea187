"""Files of small grey images that come along: a header and blocks, each compressed on its own.

An image has 16 grey levels, two of them in a byte.
"""

import json
import lzma
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

GREY_PER_LEVEL = 17  # so that level 15 is white (255)
_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 1 << 24, "lc": 3, "lp": 0, "pb": 0}]

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class PackedFile:
    """The bytes of such a file whose header was read; `start` is where its blocks begin."""

    content: bytes
    header: dict[str, Any]
    start: int

    def block(self, name: str) -> bytes:
        """The bytes of a block."""
        offset, size = self.header["blocks"][name]
        return lzma.decompress(self.content[self.start + offset : self.start + offset + size])

    def images(self, name: str, size: int) -> Bytes:
        """The images (n, size, size) of a block, grey 0..255 in steps of 17."""
        packed = np.frombuffer(self.block(name), np.uint8).reshape(-1, size, size // 2)
        images = np.empty((len(packed), size, size), np.uint8)
        images[..., 0::2] = (packed >> 4) * GREY_PER_LEVEL
        images[..., 1::2] = (packed & 15) * GREY_PER_LEVEL
        return images


def read_packed(content: bytes, magic: bytes, kind: str) -> PackedFile:
    """Reads the header; ValueError that says which `kind` of file it must be."""
    if not content.startswith(magic):
        raise ValueError(f"{kind} must start with {magic!r}, but got {content[: len(magic)]!r}.")
    begin = len(magic) + 4
    size = int.from_bytes(content[len(magic) : begin], "little")
    header: dict[str, Any] = json.loads(lzma.decompress(content[begin : begin + size]))
    return PackedFile(content, header, begin + size)


def join_packed(magic: bytes, header: Mapping[str, Any], blocks: Mapping[str, bytes]) -> bytes:
    """The bytes of a file, the same for the same header and blocks."""
    table: dict[str, tuple[int, int]] = {}
    offset = 0
    compressed = {name: _compress(block) for name, block in blocks.items()}
    for name, block in compressed.items():
        table[name] = (offset, len(block))
        offset += len(block)
    head = _compress(json.dumps({**header, "blocks": table}, sort_keys=True).encode())
    return b"".join([magic, len(head).to_bytes(4, "little"), head, *compressed.values()])


def pack(levels: Bytes) -> Bytes:
    """Two levels 0..15 of (…, n) in a byte of (…, n / 2)."""
    packed: Bytes = (levels[..., 0::2] << np.uint8(4)) | levels[..., 1::2]
    return packed


def _compress(content: bytes) -> bytes:
    return lzma.compress(content, format=lzma.FORMAT_XZ, filters=_FILTERS)
