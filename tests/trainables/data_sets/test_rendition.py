"""Street renditions: the same bytes for an image everywhere, whatever stands beside it."""

import hashlib
import re

import numpy as np
import pytest
from numpy.typing import NDArray

from trainables.data_sets.icons.icon_set import load_icons
from trainables.data_sets.rendition import Draws, draws_of, random_draws, street

PINNED = {
    0.5: "515513af60a66020bb606eea70e89542a45527eed9ccf718bda10c1f1f7bb24f",
    1.0: "ccb159126ddac347bfaad337026def6b7eeec641971301c190664af8d3db0b41",
}
Images = NDArray[np.uint8]


@pytest.fixture(scope="module")
def icons() -> tuple[Images, Draws]:
    """Every hundredth icon with its draws."""
    drawn = load_icons(32)
    pairs = zip(drawn.labels[::100].tolist(), drawn.families[::100].tolist(), strict=True)
    names = (f"icons/{drawn.class_names[label]}/{drawn.family_names[it]}" for label, it in pairs)
    return drawn.images[::100], draws_of(names)


def squares(count: int) -> Images:
    """Black squares in the middle of white images."""
    images = np.full((count, 24, 20), 255, np.uint8)
    images[:, 8:16, 6:14] = 0
    return images


def light_on_dark(images: Images) -> NDArray[np.bool_]:
    """Whether the middle (n,) is lighter than what surrounds it."""
    middle = images[:, 10:14, 8:12].mean((1, 2))
    around = np.concatenate([images[:, :3].mean(1), images[:, -3:].mean(1)], 1).mean(1)
    lighter: NDArray[np.bool_] = middle > around
    return lighter


def test_at_strength_0_every_image_is_what_it_was(icons: tuple[Images, Draws]) -> None:
    images, draws = icons
    assert np.array_equal(street(images, draws, 0.0), images)
    noise = np.random.default_rng(0).integers(0, 256, (70, 9, 14), np.uint8)
    assert np.array_equal(street(noise, random_draws(np.random.default_rng(1), 70), 0.0), noise)


@pytest.mark.parametrize("strength", PINNED)
def test_the_bytes_are_those_that_are_pinned(strength: float, icons: tuple[Images, Draws]) -> None:
    rendered = street(*icons, strength)
    assert rendered.dtype == np.uint8 and rendered.shape == icons[0].shape
    assert hashlib.sha256(rendered.tobytes()).hexdigest() == PINNED[strength]


def test_an_image_is_rendered_alike_whatever_its_neighbours(icons: tuple[Images, Draws]) -> None:
    images, draws = icons
    whole = street(images, draws, 0.8)
    order = np.random.default_rng(2).permutation(len(images))[:90]
    assert np.array_equal(street(images[order], draws[order], 0.8), whole[order])
    # Nor which strengths they have.
    strengths = np.linspace(0, 1, len(images))
    strengths[7] = 0.8
    assert np.array_equal(street(images, draws, strengths)[7], whole[7])
    # Images of one drawing differ by their names alone.
    assert len(np.unique(street(squares(50), draws[:50], 1.0), axis=0)) == 50


def test_a_share_of_half_the_strength_is_light_on_dark() -> None:
    draws = draws_of(f"some/{number}" for number in range(2000))
    swapped = {
        strength: light_on_dark(street(squares(2000), draws, strength))
        for strength in (0.0, 0.3, 1.0)
    }
    for strength, lighter in swapped.items():
        assert lighter.mean() == pytest.approx(strength / 2, abs=0.03)
    # Whatever is so at less strength stays so.
    assert not (swapped[0.3] & ~swapped[1.0]).any()


def test_but_for_those_that_turn_light_images_change_steadily(
    icons: tuple[Images, Draws],
) -> None:
    images, draws = icons
    near = [street(images, draws, strength).astype(int) for strength in (0.5, 0.501)]
    steps = np.abs(near[0] - near[1]).mean((1, 2))
    assert (steps < 1.5).mean() > 0.98
    far = np.abs(street(images, draws, 1.0).astype(int) - images).mean((1, 2))
    assert far.mean() > 50 * np.median(steps)


def test_full_strength_has_the_contrast_light_and_noise_it_says() -> None:
    draws = draws_of(f"some/{number}" for number in range(1000))
    plain = np.full((1000, 16, 16), 255, np.uint8)
    noise = np.diff(street(plain, draws, 1.0).astype(float), axis=2)
    # The difference of two pixels has √2 of their deviation, 0.05 of 255 on average; less where
    # the ground is white or black.
    deviations = noise.std((1, 2)) / 2**0.5 / 255
    assert deviations.max() < 0.12 and 0.03 < deviations.mean() < 0.055
    contrast = np.ptp(street(squares(1000), draws, 1.0)[:, 8:16].astype(float), axis=(1, 2)) / 255
    assert contrast.min() > 0.2 and np.quantile(contrast, 0.05) < 0.45


@pytest.mark.parametrize(
    ("images", "draws", "strength", "said"),
    [
        (np.zeros((2, 4, 4)), 2, 1.0, "images must be uint8 (n, h, w), but got float64 (2, 4, 4)"),
        (np.zeros((4, 4), np.uint8), 4, 1.0, "but got uint8 (4, 4)"),
        (squares(3), 2, 1.0, "draws must be uint64 (3,), but got uint64 (2,)"),
        (squares(3), 3, 1.01, "strength must be in [0, 1], but got 1.01"),
        (squares(3), 3, np.nan, "strength must be in [0, 1], but got nan"),
        (squares(3), 3, np.array([0.0, -0.5, 1.0]), "strength must be in [0, 1], but got -0.5"),
        (squares(3), 3, np.zeros(2), "strength must be a number or (3,), but got (2,)"),
    ],
)
def test_what_cannot_be_rendered_is_refused(
    images: Images, draws: int, strength: float, said: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        street(images, random_draws(np.random.default_rng(0), draws), strength)
