"""Random crops of stored images against torchvision's transforms of single images."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import ks_2samp
from torch import Tensor
from torch.nn import functional

from tests.trainables.draws import seeded
from trainables.backbones import timm_compat  # before torchvision
from trainables.data.batches import TaskImages
from trainables.data.cache.decoding import fit
from trainables.data.crops import (
    LARGE_PAGES,
    PART,
    crops_at_once,
    crops_one_by_one,
    interpolation,
    random_boxes,
    random_crops,
)
from trainables.data.images import ArrayImages, ImageSource, StoredImages, image_source
from trainables.data.stream import ImageSet

assert timm_compat
from torchvision import transforms  # noqa: E402
from torchvision.transforms.functional import resized_crop  # noqa: E402

SIZES = ((375, 500), (256, 341), (500, 200), (300, 300))
COUNT = 3000
# Two samples of COUNT from one distribution differ by more than this once in 10,000 times.
KOLMOGOROV = 2.23 * (2 / COUNT) ** 0.5


class Held:
    """Images of different sizes, as a cache gives them."""

    def __init__(self, images: list[NDArray[np.uint8]], side: int, bicubic: bool = False) -> None:
        self.images, self.side, self.bicubic = images, side, bicubic

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> NDArray[np.uint8]:
        return self.images[row]


def generated(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    """Amplitudes fall with the frequency, as in photographs; three channels that go together."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    amplitude = np.maximum(frequency, 1 / max(height, width)) ** -1.3

    def noise() -> NDArray[np.float64]:
        phases = np.exp(2j * np.pi * rng.random(amplitude.shape))
        return np.fft.irfft2(amplitude * phases, (height, width))

    grey = noise()
    colours = np.stack([grey + 0.3 * noise() for _ in range(3)], -1)
    standard = (colours - colours.mean()) / colours.std()
    levels: NDArray[np.float64] = np.clip(128 + 50 * standard, 0, 255)
    return levels.astype(np.uint8)


def photographs() -> list[NDArray[np.uint8]]:
    datasets = pytest.importorskip("sklearn.datasets", reason="two photographs are in scikit-learn")
    return [np.array(image) for image in datasets.load_sample_images().images]


def held(images: list[NDArray[np.uint8]], size: int, device: str = "cpu") -> StoredImages:
    return StoredImages(Held(images, size), size, torch.device(device))


def tensor(image: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("share", [0.05, 0.08, 0.6])
def test_boxes_are_distributed_as_those_of_torchvision(
    height: int, width: int, share: float
) -> None:
    """Share of the area, aspect ratio and place, on images of every shape."""
    torch.manual_seed(0)
    image = torch.empty(3, height, width)
    drawn = [
        transforms.RandomResizedCrop.get_params(image, [share, 1.0], [3 / 4, 4 / 3])
        for _ in range(COUNT)
    ]
    theirs = np.array([(left, top, wide, tall) for top, left, tall, wide in drawn], np.float64)
    others = torch.full((COUNT,), height), torch.full((COUNT,), width)
    ours = random_boxes(COUNT, *others, share, seeded(1)).numpy()
    statistics = {
        "area": lambda box: box[:, 2] * box[:, 3] / (height * width),
        "ratio": lambda box: np.log(box[:, 2] / box[:, 3]),
        "left": lambda box: box[:, 0],
        "top": lambda box: box[:, 1],
    }
    for name, statistic in statistics.items():
        assert ks_2samp(statistic(ours), statistic(theirs)).statistic < KOLMOGOROV, name


def test_boxes_of_one_size_are_the_same_as_of_many() -> None:
    heights, widths = torch.full((50,), 40), torch.full((50,), 70)
    of_many = random_boxes(50, heights, widths, 0.3, seeded())
    assert torch.equal(of_many, random_boxes(50, 40, 70, 0.3, seeded()))


@pytest.mark.parametrize("cut", [crops_one_by_one, crops_at_once])
@pytest.mark.parametrize("kind", ["generated", "photographs"])
def test_a_crop_is_the_one_of_torchvision_to_a_level(
    kind: str, cut: Callable[[StoredImages, list[Tensor], Tensor, Tensor], Tensor]
) -> None:
    """The same box and flip: only rounding differs, on images of any size, also upwards."""
    images = photographs() if kind == "photographs" else [generated(*size, 0) for size in SIZES]
    images = (images * PART)[: PART + 2]
    pieces = [tensor(image) for image in images]
    heights, widths = (torch.tensor([piece.shape[axis] for piece in pieces]) for axis in (1, 2))
    boxes = random_boxes(len(pieces), heights, widths, 0.02, seeded(3))
    flipped = torch.arange(len(pieces)) % 3 == 0
    crops = cut(held(images, 64), pieces, boxes, flipped)
    for image, crop, (left, top, wide, tall), flip in zip(
        images, crops, boxes.int().tolist(), flipped, strict=True
    ):
        expected = np.asarray(
            resized_crop(Image.fromarray(image), top, left, tall, wide, [64, 64])
        ).astype(int)
        expected = expected[:, ::-1] if flip else expected
        levels = (crop.permute(1, 2, 0) * 255).round().numpy()
        assert np.abs(levels - expected).max() <= 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_crops_on_a_gpu_are_those_of_the_host() -> None:
    images = [generated(*size, 0) for size in SIZES * 10]
    rows = torch.arange(len(images))
    host, device = (
        random_crops(held(images, 64, where), rows, 0.05, seeded()) for where in ("cpu", "cuda")
    )
    assert device.is_cuda
    assert float((host - device.cpu()).abs().max()) <= 1 / 255 + 1e-6


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize(("length", "size"), [(5, 16), (16, 16), (40, 16), (1, 7), (33, 8)])
def test_interpolation_is_that_of_torch(length: int, size: int, antialias: bool) -> None:
    """Enlarging is the same with and without antialiasing; what surrounds a stretch is not read."""
    if length > size and not antialias:
        return
    line = torch.rand(60, generator=seeded(1))
    start, lengths = torch.tensor([7.0, 3.0]), torch.full((2,), float(length))
    weights = interpolation(start, lengths, 60, size, torch.tensor([False, True]))
    for begin, weight, reverse in zip((7, 3), weights, (False, True), strict=True):
        stretch = line[None, None, None, begin : begin + length]
        expected = functional.interpolate(
            stretch, (1, size), mode="bilinear", antialias=antialias
        ).flatten()
        torch.testing.assert_close(weight @ line, expected.flip(0) if reverse else expected)


def test_half_of_the_crops_are_flipped() -> None:
    ramp = np.broadcast_to(np.arange(0, 240, 4, dtype=np.uint8)[None, :, None], (40, 60, 1))
    crops = random_crops(held([ramp] * 1000, 8), torch.arange(1000), 0.3, seeded())
    flipped = (crops[:, 0, 0, 0] > crops[:, 0, 0, -1]).double().mean()
    assert float(flipped) == pytest.approx(0.5, abs=0.05)


def test_evaluation_sees_what_the_published_transform_gives() -> None:
    """Resize to 256, the middle 224: bit for bit, from whole images and from stored ones."""
    images = [generated(375, 500, 1), generated(500, 333, 2)]
    published = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])
    expected = np.stack([np.asarray(published(Image.fromarray(image))) for image in images])
    for held in (Held(images, 256), Held([fit(image, 256) for image in images], 256)):
        views = StoredImages(held, 224, torch.device("cpu")).views(torch.tensor([0, 1]))
        assert np.array_equal(views.permute(0, 2, 3, 1).numpy(), expected)


def test_small_images_are_enlarged_as_published() -> None:
    image = generated(24, 32, 3)
    published = transforms.Compose([transforms.Resize(64), transforms.CenterCrop(56)])
    (view,) = StoredImages(Held([image], 64), 56, torch.device("cpu")).views(torch.tensor([0]))
    difference = np.asarray(published(Image.fromarray(image))).astype(int)
    difference = difference - view.permute(1, 2, 0).numpy()
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("shape", [(300, 400, 3), (400, 300, 3), (300, 256, 1), (32, 32, 3)])
def test_bicubic_views_are_those_of_the_released_sd_lora(shape: tuple[int, ...]) -> None:
    image = generated(shape[0], shape[1], 1)[..., : shape[2]]
    picture = Image.fromarray(image.squeeze())
    resize = transforms.Resize(256, transforms.InterpolationMode.BICUBIC)
    published = transforms.Compose([resize, transforms.CenterCrop(224)])
    expected = np.asarray(published(picture)).reshape(224, 224, -1)
    stored = fit(image, 256, bicubic=True)
    (view,) = StoredImages(Held([stored], 256, True), 224, torch.device("cpu")).views(
        torch.tensor([0])
    )
    assert torch.equal(view, tensor(expected))


@pytest.mark.parametrize(
    ("smallest", "largest", "levels"), [(0.05, 0.15, 6.0), (0.35, 0.7, 4.5), (0.7, 1.0, 3.0)]
)
def test_a_cache_blurs_crops_by_a_few_levels(
    smallest: float, largest: float, levels: float
) -> None:
    """At 224 from a shorter side of 256: mean difference from crops of the whole photographs."""
    torch.manual_seed(0)
    differences = []
    for image in photographs():
        stored = fit(image, 256)
        scale = image.shape[0] / stored.shape[0], image.shape[1] / stored.shape[1]
        for _ in range(8):
            top, left, tall, wide = transforms.RandomResizedCrop.get_params(
                tensor(stored), [smallest, largest], [3 / 4, 4 / 3]
            )
            box = (top, left, tall, wide)
            whole = [round(edge * scale[at % 2]) for at, edge in enumerate(box)]
            crops = [
                np.asarray(resized_crop(Image.fromarray(pixels), *edges, [224, 224])).astype(int)
                for pixels, edges in ((stored, box), (image, whole))
            ]
            differences.append(np.abs(crops[0] - crops[1]).mean())
    assert 0.5 < float(np.mean(differences)) < levels


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("augmentation", ["affine", "random_resized_crop", "none"])
def test_batches_are_repeatable_and_in_the_range_of_pixels(augmentation: str, stored: bool) -> None:
    images = [generated(*size, seed) for seed, size in enumerate(((20, 30), (40, 25)) * 3)]
    source: ImageSource = image_source(Held(images, 18), 16, torch.device("cpu"))
    if not stored:
        source = ArrayImages(source.views(torch.arange(6)))
    data = ImageSet(source, torch.tensor([4, 0, 3, 5]), torch.arange(4))
    drawn = [
        torch.cat([images for images, _ in TaskImages(data, 3, augmentation, seeded(2)).shuffled()])
        for _ in range(2)
    ]
    assert drawn[0].shape == (4, 3, 16, 16)
    assert torch.equal(*drawn)
    assert 0 <= float(drawn[0].min()) < float(drawn[0].max()) <= 1 + 1e-6
    plain = data.images[torch.randperm(4, generator=seeded(2))] / 255
    assert (float((drawn[0] - plain).abs().mean()) > 0.01) == (augmentation != "none")


def test_reading_a_mapped_file_warns_of_nothing(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    path = tmp_path / "pixels"
    path.write_bytes(bytes(range(48)))
    image = np.memmap(path, np.uint8, mode="r").reshape(4, 4, 3)
    source = StoredImages(Held([image], 4), 4, torch.device("cpu"))
    assert torch.equal(source.views(torch.tensor([0]))[0], tensor(np.array(image)))
    assert not recwarn


def test_threads_change_no_batch_and_keep_their_setting_to_themselves() -> None:
    held = Held([generated(20, 30, seed) for seed in range(7)], 18)
    rows, before = torch.tensor([6, 0, 3, 3, 1, 5, 2, 4]), torch.get_num_threads()
    batches = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            source = StoredImages(held, 16, torch.device("cpu"))
            assert source.each(lambda item: item * 2, range(8)) == list(range(0, 16, 2))
            crops = random_crops(source, rows, 0.1, seeded())
            batches.append((source.views(rows), crops))
            with ThreadPoolExecutor(1) as later:
                assert later.submit(torch.get_num_threads).result() == threads
            assert torch.get_num_threads() == threads
            assert set(source.each(lambda _: torch.get_num_threads(), range(9))) == {1}
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(*pair) for pair in zip(*batches, strict=True))


def test_batches_in_large_pages_are_new_memory_each_time() -> None:
    source, rows = held([generated(40, 50, seed) for seed in range(6)], 140), torch.arange(6)
    many = rows.repeat(7)
    kept = [random_crops(source, many, 0.5, seeded(seed)) for seed in (0, 0, 1)]
    assert kept[0].nbytes > LARGE_PAGES and kept[0].is_contiguous()
    assert torch.equal(kept[0], kept[1]) and not torch.equal(kept[0], kept[2])
    small = random_crops(source, rows, 0.5, seeded())
    assert small.nbytes < LARGE_PAGES
    weight = torch.rand(3, requires_grad=True)
    (kept[0].mean((2, 3)) * weight).sum().backward()
    expected = kept[1].mean((0, 2, 3)) * len(many)
    assert weight.grad is not None and torch.allclose(weight.grad, expected)
