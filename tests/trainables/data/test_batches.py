import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from trainables.config import DataConfig
from trainables.data.batches import (
    TaskImages,
    random_affine,
    random_boxes,
    random_resized_crop,
)
from trainables.data.images import ArrayImages
from trainables.data.stream import ImageSet


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbered(count: int, size: int = 4) -> ImageSet:
    """Images of one value each, their own number, which is their label too."""
    labels = torch.arange(count)
    return in_memory(labels.to(torch.uint8)[:, None, None, None].expand(-1, 1, size, size), labels)


def in_memory(images: Tensor, labels: Tensor) -> ImageSet:
    return ImageSet(ArrayImages(images), torch.arange(len(images)), labels)


def boxes(height: int, width: int, share: float, count: int = 4000) -> Tensor:
    return random_boxes(count, height, width, share, seeded())


def test_an_epoch_is_each_image_once_with_its_label() -> None:
    images = TaskImages(numbered(20), 7, "none", seeded())
    drawn = list(images.shuffled())
    assert [len(labels) for _, labels in drawn] == [7, 7, 6]
    labels = torch.cat([labels for _, labels in drawn])
    assert sorted(labels.tolist()) == list(range(20)) != labels.tolist()
    values = torch.cat([batch[:, 0, 0, 0] for batch, _ in drawn])
    assert (values * 255).round().long().tolist() == labels.tolist()


def test_a_shorter_epoch_draws_other_images_each_time_and_none_twice() -> None:
    images = TaskImages(numbered(50), 8, "none", seeded(), epoch_images=20)
    assert len(images) == 20
    epochs = [torch.cat([labels for _, labels in images.shuffled()]).tolist() for _ in range(30)]
    assert all(len(set(labels)) == 20 for labels in epochs)
    assert {label for labels in epochs for label in labels} == set(range(50))


def test_plain_images_are_all_of_them_in_order() -> None:
    data = numbered(50)
    plain = torch.cat(list(TaskImages(data, 8, "affine", seeded(), epoch_images=20).plain()))
    assert torch.equal((plain * 255).round().to(torch.uint8), data.images)


@pytest.mark.parametrize("augmentation", ["affine", "random_resized_crop", "none"])
def test_batches_are_repeatable_and_in_the_range_of_pixels(augmentation: str) -> None:
    pixels = torch.randint(0, 256, (12, 1, 8, 8), generator=seeded(), dtype=torch.uint8)
    data = in_memory(pixels, torch.arange(12))
    drawn = [
        torch.cat([one for one, _ in TaskImages(data, 5, augmentation, seeded(1)).shuffled()])
        for _ in range(2)
    ]
    assert torch.equal(*drawn)
    assert float(drawn[0].min()) >= 0 and float(drawn[0].max()) <= 1 + 1e-6
    order = torch.randperm(12, generator=seeded(1))
    moved = float((drawn[0] - data.images[order] / 255).abs().mean())
    assert (moved > 0.01) == (augmentation != "none")


def test_the_crop_scale_of_the_batches_is_the_one_used() -> None:
    """Of a ramp, the range that is left says how wide the crop was."""
    ramp = torch.arange(0, 256, 8, dtype=torch.uint8).expand(60, 1, 32, 32)
    data = in_memory(ramp, torch.zeros(60, dtype=torch.long))
    narrowest = {}
    for scale in (0.08, 0.9):
        images = TaskImages(data, 60, "random_resized_crop", seeded(), crop_scale=scale)
        (batch, _) = next(images.shuffled())
        narrowest[scale] = float((batch.amax((1, 2, 3)) - batch.amin((1, 2, 3))).min())
    assert narrowest[0.08] < 0.4 < 0.75 < narrowest[0.9]


def test_boxes_are_whole_pixels_inside_the_image() -> None:
    left, top, width, height = boxes(32, 48, 0.05).unbind(1)
    for edge in (left, top, width, height):
        assert torch.equal(edge, edge.round())
    assert float(min(left.min(), top.min())) >= 0
    assert float(min(width.min(), height.min())) >= 1
    assert float((left + width).max()) <= 48 and float((top + height).max()) <= 32


def test_areas_are_uniform_above_the_smallest_share() -> None:
    """Where every box fits: up to half of the area of a square, at any ratio."""
    _, _, width, height = boxes(1000, 1000, 0.08).unbind(1)
    share = width * height / 1e6
    assert float(share.min()) >= 0.079 and float(share.max()) <= 1.0
    fitting = share[share < 0.5]
    assert float(fitting.mean()) == pytest.approx((0.08 + 0.5) / 2, abs=0.01)
    assert float(fitting.std()) == pytest.approx((0.5 - 0.08) / math.sqrt(12), abs=0.01)


def test_ratios_are_log_uniform_and_even_both_ways() -> None:
    _, _, width, height = boxes(1000, 1000, 0.08).unbind(1)
    small = width * height < 5e5
    ratio = (width / height)[small].log()
    assert float(ratio.abs().max()) <= math.log(4 / 3) + 0.01
    assert float(ratio.mean()) == pytest.approx(0, abs=0.02)
    assert float(ratio.std()) == pytest.approx(2 * math.log(4 / 3) / math.sqrt(12), abs=0.01)


def test_places_are_even_over_the_image() -> None:
    left, top, width, height = boxes(1000, 1000, 0.08).unbind(1)
    for start, size in ((left, width), (top, height)):
        room = 1000 - size
        place = (start / room)[room > 50]
        assert float(place.mean()) == pytest.approx(0.5, abs=0.02)
        assert float(place.std()) == pytest.approx(1 / math.sqrt(12), abs=0.02)


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(1000, 1000, [0, 0, 1000, 1000]), (1000, 4000, [1333, 0, 1333, 1000])],
)
def test_where_no_box_fits_the_largest_in_the_middle_is_taken(
    height: int, width: int, expected: list[int]
) -> None:
    found = boxes(height, width, 1.0, 200)
    # A square of exactly the whole fits by chance, when the ratio happens to be 1.
    middle = torch.tensor(expected, dtype=found.dtype)
    assert float(((found - middle).abs() <= 1).all(1).double().mean()) > 0.95


def test_a_crop_is_the_box_resized_and_reads_nothing_outside() -> None:
    images = torch.rand(40, 2, 9, 12, generator=seeded(3))
    cropped = random_resized_crop(images, 0.1, seeded(5))
    flips = []
    for image, crop, box in zip(
        images, cropped, random_boxes(40, 9, 12, 0.1, seeded(5)).int().tolist(), strict=True
    ):
        left, top, width, height = box
        cut = image[None, :, top : top + height, left : left + width]
        resized = functional.interpolate(cut, (9, 12), mode="bilinear", align_corners=False)[0]
        distances = [float((crop - one).abs().max()) for one in (resized, resized.flip(-1))]
        assert min(distances) < 1e-4
        flips.append(distances[1] < distances[0])
    assert 0 < sum(flips) < 40


def test_half_of_the_crops_are_flipped() -> None:
    """From left to right a ramp rises, and falls where it was flipped."""
    ramp = torch.linspace(0, 1, 16).expand(2000, 1, 16, 16)
    cropped = random_resized_crop(ramp, 0.3, seeded())
    falls = cropped[:, 0, 8, -1] < cropped[:, 0, 8, 0]
    assert float(falls.double().mean()) == pytest.approx(0.5, abs=0.04)


def test_the_whole_of_a_square_is_left_as_it_is_but_for_the_flip() -> None:
    images = torch.rand(50, 1, 64, 64, generator=seeded(1))
    cropped = random_resized_crop(images, 1.0, seeded(2))
    boxed = random_boxes(50, 64, 64, 1.0, seeded(2))
    whole = (boxed == torch.tensor([0, 0, 64, 64])).all(1)
    assert int(whole.sum()) > 40
    for image, crop in zip(images[whole], cropped[whole], strict=True):
        assert min(float((crop - one).abs().max()) for one in (image, image.flip(-1))) < 1e-4


def test_affine_moves_pixels_within_their_range_and_leaves_a_blank_page() -> None:
    images = torch.rand(16, 1, 32, 32, generator=seeded())
    moved = random_affine(images, seeded())
    assert moved.shape == images.shape
    assert float(moved.min()) >= 0.0 and float(moved.max()) <= 1.0 + 1e-6
    assert float((moved - images).abs().mean()) > 0.01
    blank = torch.ones(4, 1, 32, 32)
    torch.testing.assert_close(random_affine(blank, seeded()), blank)


@pytest.mark.parametrize("scale", [0.0, -0.1, 1.1, float("nan")])
def test_a_crop_scale_that_is_no_share_is_refused(scale: float) -> None:
    with pytest.raises(ValueError, match=r"data\.crop_scale must be in \(0, 1\]"):
        DataConfig(crop_scale=scale)
