"""Images of any size and number of channels become batches, and numbers that do not fit them are refused."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from vae_lightning.data import FashionMNISTDataModule, ImageDataModule, KMNISTDataModule, MNISTDataModule
from vae_lightning.errors import ConfigurationError
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
