import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.trainables.draws import seeded
from trainables.config import DataConfig
from trainables.data.batches import TaskImages, random_affine
from trainables.data.crops import random_boxes, random_resized_crop
from trainables.data.images import ArrayImages
from trainables.data.stream import ImageSet


def numbered(count: int, size: int = 4) -> ImageSet:
    """Images of one value each, their own number, which is their label too."""
    labels = torch.arange(count)
    return in_memory(labels.to(torch.uint8)[:, None, None, None].expand(-1, 1, size, size), labels)


def in_memory(images: Tensor, labels: Tensor) -> ImageSet:
    return ImageSet(ArrayImages(images), torch.arange(len(images)), labels)


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
    left, top, width, height = random_boxes(4000, 32, 48, 0.05, seeded()).unbind(1)
    for edge in (left, top, width, height):
        assert torch.equal(edge, edge.round())
    assert float(min(left.min(), top.min())) >= 0
    assert float(min(width.min(), height.min())) >= 1
    assert float((left + width).max()) <= 48 and float((top + height).max()) <= 32


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
        distances = [float((crop - view).abs().max()) for view in (resized, resized.flip(-1))]
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
        assert min(float((crop - view).abs().max()) for view in (image, image.flip(-1))) < 1e-4


@pytest.mark.parametrize("grey", [1.0, 0.4, 0.0])
def test_affine_leaves_a_blank_page(grey: float) -> None:
    """Of any grey, as renditions have it."""
    blank = torch.full((4, 1, 32, 32), grey)
    torch.testing.assert_close(random_affine(blank, seeded()), blank)


@pytest.mark.parametrize("scale", [0.0, -0.1, 1.1, float("nan")])
def test_a_crop_scale_that_is_no_share_is_refused(scale: float) -> None:
    with pytest.raises(ValueError, match=r"data\.crop_scale must be in \(0, 1\]"):
        DataConfig(crop_scale=scale)
