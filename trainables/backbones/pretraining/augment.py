"""Batched augmentation of icon drawings: stroke width, strength of ink, affine maps, erasing."""

import math

import torch
from torch.nn import functional

THICKEN_SHARE = 0.2  # of the images in a batch
THIN_SHARE = 0.15
ERASE_SHARE = 0.25
UNTOUCHED_SHARE = 0.1  # drawn as they are, but for the strength of the ink
MAX_ROTATION = math.radians(20.0)
MAX_SHEAR = 0.2
MAX_SHIFT = 0.15  # in half image widths
SCALES = (0.8, 1.45)  # above 1 the drawing shrinks, for the map goes from output to input
MAX_ASPECT = 0.2
MIN_INK = 0.4  # of the images that aren't drawn with full ink
FULL_INK_SHARE = 0.5


def unpack(packed: torch.Tensor) -> torch.Tensor:
    """Turn two levels a byte (n, s, s / 2) into ink (n, 1, s, s) in [0, 1], 1 where black."""
    levels = torch.stack([packed >> 4, packed & 15], dim=3).flatten(2)
    return 1.0 - levels.unsqueeze(1).float() / 15.0


def augment(ink: torch.Tensor, size: int) -> torch.Tensor:
    """Return random views (n, 1, size, size) of `ink`, as pixels in [0, 1] on white (1)."""
    count = len(ink)
    thick, thin = int(THICKEN_SHARE * count), int((THICKEN_SHARE + THIN_SHARE) * count)
    ink = torch.cat(  # a batch is in random order, so its first images are a random choice
        [
            _thicken(ink[:thick]),
            -_thicken(-ink[thick:thin]),
            ink[thin:],
        ]
    )
    matrices = _affine_matrices(count)
    grid = functional.affine_grid(matrices, [count, 1, size, size], align_corners=False)
    views = functional.grid_sample(ink, grid, padding_mode="zeros", align_corners=False)
    views = _erase(views, int(ERASE_SHARE * count))
    strength = torch.where(torch.rand(count) < FULL_INK_SHARE, 1.0, _uniform(count, MIN_INK, 1.0))
    return 1.0 - views * strength[:, None, None, None]


def _thicken(ink: torch.Tensor) -> torch.Tensor:
    # Two passes cost half of one with a square window.
    across = functional.max_pool2d(ink, (1, 3), 1, (0, 1))
    return functional.max_pool2d(across, (3, 1), 1, (1, 0))


def _affine_matrices(count: int) -> torch.Tensor:
    angle = _uniform(count, -MAX_ROTATION, MAX_ROTATION)
    scale = torch.exp(_uniform(count, math.log(SCALES[0]), math.log(SCALES[1])))
    aspect = torch.exp(_uniform(count, -MAX_ASPECT, MAX_ASPECT))
    shear_x, shear_y = _uniform(count, -MAX_SHEAR, MAX_SHEAR), _uniform(count, -0.1, 0.1)
    cosine, sine = torch.cos(angle), torch.sin(angle)
    across, down = scale * aspect, scale / aspect
    matrices = torch.stack(
        [
            torch.stack([across * cosine, shear_x - down * sine], 1),
            torch.stack([across * sine + shear_y, down * cosine], 1),
        ],
        dim=1,
    )
    shift = torch.rand(count, 2, 1) * 2.0 * MAX_SHIFT - MAX_SHIFT
    affine = torch.cat([matrices, shift], dim=2)
    untouched = torch.rand(count, 1, 1) < UNTOUCHED_SHARE
    return torch.where(untouched, torch.eye(2, 3).unsqueeze(0), affine)


def _erase(views: torch.Tensor, erased: int) -> torch.Tensor:
    """Blank one random box, a quarter to a half of the image wide, in the last images."""
    count, _, _, size = views.shape
    if not erased:
        return views
    axis = torch.arange(size).float() / size
    corner, extent = torch.rand(erased, 2) * 0.75, _uniform(2 * erased, 0.2, 0.45).view(erased, 2)
    inside = (axis >= corner[..., None]) & (axis < (corner + extent)[..., None])
    box = inside[:, 0, :, None] & inside[:, 1, None, :]
    kept = torch.ones(count, 1, size, size)
    kept[count - erased :, 0] = (~box).float()
    return views * kept


def _uniform(count: int, low: float, high: float) -> torch.Tensor:
    return torch.rand(count) * (high - low) + low
