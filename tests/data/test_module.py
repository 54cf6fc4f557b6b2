"""Images of any size and number of channels become batches, and numbers that do not fit them are refused."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from vae_lightning.data import FashionMNISTDataModule, ImageDataModule, KMNISTDataModule, MNISTDataModule
from vae_lightning.errors import ConfigurationError, DataError
from vae_lightning.noise import generator
from vae_lightning.types import ImageData

PIXELS = torch.randint(0, 256, (60, 3, 6, 9), dtype=torch.uint8, generator=generator("pixels"))


class Colours(ImageDataModule):
    label_names = ("a", "b", "c")

    def read(self) -> Mapping[str, tuple[Tensor, Tensor]]:
        labels = torch.arange(60) % 3
        return {
            name: (PIXELS[part], labels[part])
            for name, part in (("train", slice(40)), ("val", slice(40, 50)), ("test", slice(50, 60)))
        }


def test_shape_and_classes_are_those_of_the_images() -> None:
    data = Colours()
    assert isinstance(data, ImageData)
    assert (data.image_shape, data.num_classes) == ((3, 6, 9), 3)


@pytest.mark.parametrize(
    ("split", "changed", "said"),
    [
        ("val", lambda x, y: (x, y + 1), r"val labels are 1 to 3, but label_names names 3: 0 to 2"),
        ("train", lambda x, y: (x, y - 1), r"train labels are -1 to 1, but"),
        ("train", lambda x, y: (x, torch.cat([y, y])), r"train labels must be int64 \(40,\), one an image; they are int64 \(80,\)"),
        ("test", lambda x, y: (x, y[:5]), r"test labels must be int64 \(10,\), one an image; they are int64 \(5,\)"),
        ("test", lambda x, y: (x, y.int()), r"test labels must be int64 \(10,\), one an image; they are int32 \(10,\)"),
        (
            "val",
            lambda x, y: (x[:0], y[:0]),
            r"val images must be uint8 \(N, C, H, W\), at least one; they are uint8 \(0, 3, 6, 9\)",
        ),
        ("train", lambda x, y: (x[:, :2], y), r"train images have 2 channels; 1 \(grey\) or 3 \(colour\) can be drawn"),
        ("train", lambda x, y: (x[:, 0], y), r"train images must be uint8 .*; they are uint8 \(40, 6, 9\)"),
        ("train", lambda x, y: (x / 255, y), r"train images must be uint8 .*; they are float32 "),
        ("test", lambda x, y: (x[..., :4], y), r"test images are \(3, 6, 4\), and those of train \(3, 6, 9\)"),
        ("val", lambda x, y: x[:2], r"val must be images and labels, two tensors"),
        ("val", lambda x, y: (x.numpy(), y), r"val must be images and labels, two tensors"),
        ("test", None, r"gives no test"),
    ],
)
def test_what_is_read_is_checked_of_every_split_at_once(split: str, changed: Callable[..., Any] | None, said: str) -> None:
    """Rather than where it is needed, which may be hours later; too many labels would be paired with other images."""

    class Own(Colours):
        def read(self) -> Mapping[str, tuple[Tensor, Tensor]]:
            read = dict(super().read())
            pair = read.pop(split)
            return read if changed is None else {**read, split: changed(*pair)}

    with pytest.raises(DataError, match=rf"^Own\.read: {said}"):
        Own().setup("fit")


def test_module_that_does_not_begin_as_one_is_refused() -> None:
    class Own(Colours):
        def __init__(self) -> None:
            pass

    with pytest.raises(ConfigurationError, match=r"Own\.__init__ does not call super\(\)\.__init__\(\)$"):
        Own().setup("fit")


def test_grey_levels_come_as_they_are_each_once_an_epoch() -> None:
    data = Colours(binarization="none", batch_size=7)
    seen = torch.cat([data.on_after_batch_transfer(batch, 0)[0] for batch in data.train_dataloader()])
    assert seen.dtype == torch.float32
    assert sorted(map(tuple, (seen * 255).round().flatten(1).tolist())) == sorted(
        map(tuple, PIXELS[:40].float().flatten(1).tolist())
    )
    assert torch.equal(data.mean_image(), (PIXELS[:40].double().mean(0) / 255).float())


def test_each_channel_is_binarized_by_itself() -> None:
    x, _ = Colours(binarization="threshold").evaluation_images("test")
    assert torch.equal(x, (PIXELS[50:] > 127).float())
    drawn = torch.stack([Colours(eval_seed=seed).evaluation_images("val")[0] for seed in range(200)])
    assert drawn.unique().tolist() == [0, 1]
    p = PIXELS[40:50].double() / 255
    assert (drawn.double().mean(0) - p).abs().max() < 5 * 0.5 / 200**0.5


def test_pixels_of_all_channels_are_permuted_and_come_back() -> None:
    data = Colours(binarization="none", permute_pixels=True)
    x, _ = data.evaluation_images("test")
    plain, _ = Colours(binarization="none").evaluation_images("test")
    assert not torch.equal(x, plain)
    assert torch.equal(data.unpermute(x), plain)
    assert torch.equal(data.permute(plain), x)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"num_labels": 4}, "num_labels=4: must be a multiple of 3"),
        ({"num_labels": 90}, "num_labels=90: must be at most 39"),
        ({"augment_shift": 9.5}, "augment_shift=9.5: must be from 0 to 9"),
    ],
)
def test_numbers_that_do_not_fit_the_images_are_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{words}"):
        Colours(only_labelled="num_labels" in arguments, **arguments).train_dataloader()


def test_few_labels_of_images_without_any_are_refused() -> None:
    class Nameless(Colours):
        label_names = ()

    with pytest.raises(ConfigurationError, match=r"^num_labels=3: must be null: the images have no labels"):
        Nameless(num_labels=3, only_labelled=True).setup()


@pytest.mark.parametrize("name", ["augment_shift", "augment_rotation", "augment_scale"])
def test_permuted_pixels_are_not_moved(name: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{name}=0.5: must be 0: permuted pixels have no neighbours"):
        Colours(permute_pixels=True, **{name: 0.5})


def test_published_names_of_classes() -> None:
    import torchvision

    for module, published in (
        (FashionMNISTDataModule, torchvision.datasets.FashionMNIST.classes),
        (KMNISTDataModule, torchvision.datasets.KMNIST.classes),
    ):
        assert list(module().label_names) == published
    assert [int(name) for name in MNISTDataModule().label_names] == list(range(10))
    assert MNISTDataModule().image_shape == (1, 28, 28)
