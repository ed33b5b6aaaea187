"""Street renditions: grey images as a camera might meet them, drawn once for each from its name.

An image is turned, scaled, sheared and shifted; ink and ground get other greys, often light on
dark; uneven light and pixel noise come on top. All that is random follows from one number an image.

The bytes are the same on every machine and with every version of numpy: random numbers are
counted off by integers here (SplitMix64: Steele, Lea and Flood 2014, "Fast splittable pseudorandom
number generators"), and pixels see additions, multiplications, divisions and roundings of single
numbers alone, which IEEE 754 defines to the last bit: no sine, no sum over an axis, no BLAS.
"""

import hashlib
import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

VERSION = 1  # of what is drawn: a change of any byte is another version

# At strength 1; each is uniform up to here, and shrinks with the strength.
MAX_TURN = 25 / 180 * math.pi  # radians, either way
SCALES = (0.75, 1.1)
MAX_SHEAR = 0.2
MAX_SHIFT = 0.06  # of the side, each way
LEAST_CONTRAST = 0.25  # ground less ink, of the full range
INVERTED = 0.5  # share of the images
MAX_LIGHT = 0.25  # of the full range, either way
MAX_NOISE = 0.1  # standard deviation, of the full range

WHITE = 255
CHUNK = 64  # images at a time, so that what is in work stays in the processor's cache
GRID = 3  # points of uneven light along a side
SLOPE = np.array([-0.25, 0, 0.25])  # along a side
DRAWS = 12 + GRID * GRID  # uniform numbers an image; the noise goes on from there

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
FIRST, SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
BYTES, SHORTS = np.uint64(0x00FF00FF00FF00FF), np.uint64(0x0000FFFF0000FFFF)
# Four bytes as they come have this sum on average, and this deviation.
MEAN_OF_FOUR, DEVIATION_OF_FOUR = 510.0, (4 * (256**2 - 1) / 12) ** 0.5

Images = NDArray[np.uint8]
Draws = NDArray[np.uint64]
Floats = NDArray[np.float64]
Pixels = NDArray[np.float32]
Pair = tuple[Floats, Floats]


def draws_of(names: Iterable[str]) -> Draws:
    """What is random of the images with these names, uint64 (n,): of each by its name alone."""
    seeds = (int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") for name in names)
    return np.fromiter(seeds, np.uint64)


def random_draws(generator: np.random.Generator, count: int) -> Draws:
    """What is random of so many images, uint64 (count,), drawn anew."""
    return generator.integers(0, 2**64, count, np.uint64)


def street(images: Images, draws: Draws, strength: float | Floats) -> Images:
    """Street renditions uint8 (n, h, w) of grey images uint8 (n, h, w), dark on white.

    `draws` (n,) are those of `draws_of` or `random_draws`; `strength` in [0, 1] is that of all
    images or of each (n,). At 0 an image is what it was, bit for bit; from there it changes
    steadily, but for the one jump to light on dark of those that are inverted. Beyond the edge of
    an image is ground. ValueError for other shapes, types or strengths.
    """
    if images.dtype != np.uint8 or images.ndim != 3:
        raise ValueError(f"images must be uint8 (n, h, w), but got {images.dtype} {images.shape}.")
    count = len(images)
    if draws.dtype != np.uint64 or draws.shape != (count,):
        raise ValueError(f"draws must be uint64 ({count},), but got {draws.dtype} {draws.shape}.")
    strengths = np.asarray(strength, np.float64)
    if strengths.shape not in ((), (count,)):
        raise ValueError(f"strength must be a number or ({count},), but got {strengths.shape}.")
    outside = strengths[~((strengths >= 0) & (strengths <= 1))]
    if outside.size:
        raise ValueError(f"strength must be in [0, 1], but got {float(outside[0])}.")
    strengths = np.broadcast_to(strengths, (count,))
    rendered = np.empty(images.shape, np.uint8)
    for start in range(0, count, CHUNK):
        rows = slice(start, start + CHUNK)
        rendered[rows] = _street(images[rows], draws[rows], strengths[rows])
    return rendered


def _street(images: Images, draws: Draws, strength: Floats) -> Images:
    numbers = _mixed(draws[:, None] + GOLDEN * np.arange(1, DRAWS + 1, dtype=np.uint64))
    uniform = (numbers >> np.uint64(11)).astype(np.float64) * 2.0**-53
    turn, scale, shear, right, down, contrast, level, inverted, light, noise = uniform.T[:10]
    slopes, grid = 2 * uniform[:, 10:12] - 1, 2 * uniform[:, 12:] - 1

    # How the image lies: where in it each pixel of the rendition is taken from.
    half = strength * (MAX_TURN / 2) * (2 * turn - 1)
    tangent = half * (1 + half * half / 3)  # so that the angle is right to 0.01 degrees
    cos = (1 - tangent * tangent) / (1 + tangent * tangent)
    sin = 2 * tangent / (1 + tangent * tangent)
    size = 1 + strength * (SCALES[0] + (SCALES[1] - SCALES[0]) * scale - 1)
    lean = strength * MAX_SHEAR * (2 * shear - 1)
    from_x = ((cos + lean * sin) / size, (sin - lean * cos) / size)
    from_y = (-sin / size, cos / size)
    shift = (strength * MAX_SHIFT * (2 * right - 1), strength * MAX_SHIFT * (2 * down - 1))
    values = _taken(images, from_x, from_y, shift)

    # Its colours: white becomes the ground, black the ink.
    span = 1 - strength * (1 - LEAST_CONTRAST) * contrast
    darkest = WHITE * (1 - span) * level
    swapped = inverted < INVERTED * strength
    values *= _column(np.where(swapped, -span, span))
    values += _column(np.where(swapped, darkest + WHITE * span, darkest))

    # Light: a smooth random field and a slope, half of each.
    lights = grid.reshape(-1, GRID, GRID) / 2
    lights += slopes[:, :1, None] * SLOPE[:, None] + slopes[:, 1:, None] * SLOPE
    lights *= (strength * light * MAX_LIGHT * WHITE)[:, None, None]
    height, width = images.shape[1:]
    values += _enlarged(_enlarged(lights.astype(np.float32), height, 1), width, 2)

    values += _noise(draws, height, width) * _column(strength * noise * MAX_NOISE * WHITE)
    return np.clip(np.rint(values), 0, WHITE).astype(np.uint8)


def _mixed(numbers: Draws) -> Draws:
    """SplitMix64: every bit of a result hangs on every bit of its number."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * FIRST
    numbers = (numbers ^ (numbers >> np.uint64(27))) * SECOND
    return numbers ^ (numbers >> np.uint64(31))


def _column(numbers: Floats) -> Pixels:
    """A number (n,) of each image, to be multiplied with or added to its pixels."""
    return numbers.astype(np.float32)[:, None, None]


def _taken(images: Images, across: Pair, down: Pair, shift: Pair) -> Pixels:
    """Pixels (n, h, w) from elsewhere in the images, bilinear, white beyond their edge.

    Counted from the middle, pixel (x, y) comes from `across` · (x, y) and `down` · (x, y), after
    the `shift` (shares of a side) is taken off.
    """
    count, height, width = images.shape
    # A white pixel around, and one more to the right and below that no share is taken of.
    framed = np.full((count, height + 3, width + 3), WHITE, np.uint8)
    framed[:, 1:-2, 1:-2] = images
    middle_x, middle_y = np.float32((width - 1) / 2), np.float32((height - 1) / 2)
    x = np.arange(width, dtype=np.float32) - middle_x - _column(width * shift[0])
    y = (np.arange(height, dtype=np.float32) - middle_y)[:, None] - _column(height * shift[1])
    from_x = x * _column(across[0]) + (middle_x + np.float32(1)) + y * _column(across[1])
    from_y = y * _column(down[1]) + (middle_y + np.float32(1)) + x * _column(down[0])
    from_x = np.clip(from_x, 0, width + 1)
    from_y = np.clip(from_y, 0, height + 1)
    left, top = from_x.astype(np.int32), from_y.astype(np.int32)
    share_x, share_y = from_x - left, from_y - top
    stride = width + 3
    place = top * stride + left
    place += (np.arange(count, dtype=np.int32) * (stride * (height + 3)))[:, None, None]
    flat = framed.reshape(-1)
    upper, upper_right, lower, lower_right = (
        flat.take(place + step).astype(np.float32) for step in (0, 1, stride, stride + 1)
    )
    upper += (upper_right - upper) * share_x
    lower += (lower_right - lower) * share_x
    taken: Pixels = upper + (lower - upper) * share_y
    return taken


def _enlarged(points: Pixels, length: int, axis: int) -> Pixels:
    """GRID points along an axis as `length` pixels between them, linear."""
    places = (np.arange(length) + 0.5) * ((GRID - 1) / length)
    first = np.minimum(places.astype(np.int64), GRID - 2)
    shape = [1, 1, 1]
    shape[axis] = length
    share = (places - first).astype(np.float32).reshape(shape)
    low, high = points.take(first, axis), points.take(first + 1, axis)
    return low + (high - low) * share


def _noise(draws: Draws, height: int, width: int) -> Pixels:
    """Pixels (n, h, w) of mean 0 and deviation 1, bell-shaped: each the sum of four bytes."""
    pairs = -(-height * width // 2)
    counted = np.arange(DRAWS + 1, DRAWS + 1 + pairs, dtype=np.uint64)
    numbers = _mixed(draws[:, None] + GOLDEN * counted)
    numbers = (numbers & BYTES) + ((numbers >> np.uint64(8)) & BYTES)
    numbers = (numbers & SHORTS) + ((numbers >> np.uint64(16)) & SHORTS)
    sums = numbers.astype("<u8", copy=False).view("<u4")[:, : height * width]
    noise = (sums.astype(np.float32) - np.float32(MEAN_OF_FOUR)) / np.float32(DEVIATION_OF_FOUR)
    return noise.reshape(-1, height, width)
