"""Characters made up of blocks, and faces that draw them with a little noise, for tests."""

import zlib

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
SIZE = 32


def drawing(shape: str, noise: str = "", changed: int = 4, wide: int = 24, high: int = 24) -> Image:
    """Levels (32, 32) of a shape, the same for a name, its width and height in pixels.

    Of its pixels `changed` are inverted, others for another noise. One pixel is a 1024th of the
    distance of two images.
    """
    blocks = _generator(shape).random((6, 6)) < 0.5
    blocks[0, :], blocks[:, 0], blocks[-1, -1] = True, True, True
    rows, columns = np.arange(high) * 6 // high, np.arange(wide) * 6 // wide
    ink = blocks[np.ix_(rows, columns)]
    if noise:
        places = _generator(noise + shape).permutation(ink.size)[:changed]
        ink.flat[places] = ~ink.flat[places]
    image = np.full((SIZE, SIZE), 15, np.uint8)
    top, left = (SIZE - high) // 2, (SIZE - wide) // 2
    image[top : top + high, left : left + wide] = np.where(ink, 0, 15)
    return image


def faces_of(count: int, weights: tuple[int, ...] = (400,)) -> list[str]:
    """Names of faces of so many families."""
    return [f"family-{number:02d}-{weight}" for number in range(count) for weight in weights]


def _generator(name: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(name.encode()))
