"""Real MNIST as batches: splits, binarization that is fixed where it must be, fresh where it must be."""

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as L
import torch

from vae_lightning.data import MNISTDataModule, sources
from vae_lightning.engine import install
from vae_lightning.errors import ConfigurationError, DataError
from vae_lightning.models import M2, VAE
from vae_lightning.noise import Source, key_of
from vae_lightning.types import UNLABELLED, Batch


def images(data: MNISTDataModule, split: str, count: int = 1000) -> torch.Tensor:
    return torch.cat([batch.images for batch in data.evaluation_loader(split, count)])


def test_splits_are_the_official_ones(mnist_root: Path) -> None:
    data = MNISTDataModule(root=str(mnist_root), val_size=5000)
    data.setup()
    assert [len(data._splits[name][0]) for name in ("train", "val", "test")] == [55_000, 5_000, 10_000]
    counts = data._splits["test"][1].bincount().tolist()
    assert counts == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_test_images_depend_on_nothing_but_their_own_seed(mnist_root: Path) -> None:
    root = str(mnist_root)
    base = images(MNISTDataModule(root=root), "test")
    assert set(base.unique().tolist()) == {0, 255}
    assert torch.equal(base, images(MNISTDataModule(root=root, seed=7, batch_size=10, eval_batch_size=77), "test"))
    assert not torch.equal(base, images(MNISTDataModule(root=root, eval_seed=1), "test"))


def test_some_images_of_a_split_are_taken_from_all_over_it(mnist_root: Path) -> None:
    data = MNISTDataModule(root=str(mnist_root))
    whole = images(data, "test", 10_000)
    assert torch.equal(images(data, "test", 100), whole[::100])
    assert len(images(data, "test", 333)) == 333
    assert torch.equal(images(data, "test", 20_000), whole)


def test_training_images_are_drawn_afresh_from_epoch_and_place_alone(mnist_root: Path) -> None:
    data = MNISTDataModule(root=str(mnist_root), batch_size=64)
    grey, labels = torch.full((64, 1, 28, 28), 128, dtype=torch.uint8), torch.zeros(64, dtype=torch.long)

    def drawn(epoch: int, first: int) -> torch.Tensor:
        source = Source(key_of("images", 0, epoch), torch.arange(first, first + 64, dtype=torch.int32))
        return data.on_after_batch_transfer(Batch(grey, labels, source), 0)[0]

    assert torch.equal(drawn(0, 0), drawn(0, 0))
    assert torch.equal(drawn(0, 0)[8:], drawn(0, 8)[:-8])
    assert not torch.equal(drawn(0, 0), drawn(1, 0))
    assert not torch.equal(drawn(0, 0), drawn(0, 64))


def test_threshold_and_none_are_what_they_say(mnist_root: Path) -> None:
    root = str(mnist_root)
    grey = images(MNISTDataModule(root=root, binarization="none"), "val")
    assert torch.equal(images(MNISTDataModule(root=root, binarization="threshold"), "val"), (grey > 127).byte() * 255)


def test_permuted_pixels_come_back_in_place(mnist_root: Path) -> None:
    root = str(mnist_root)
    plain = images(MNISTDataModule(root=root, binarization="none"), "test")
    data = MNISTDataModule(root=root, binarization="none", permute_pixels=True)
    permuted = images(data, "test")
    assert not torch.equal(permuted, plain)
    assert torch.equal(data.unpermute(permuted), plain)


def test_mean_image_is_the_mean(mnist_root: Path) -> None:
    data = MNISTDataModule(root=str(mnist_root), binarization="none")
    data.setup()
    assert torch.allclose(data.mean_image(), (data._splits["train"][0].float() / 255).mean(0), atol=1e-5)


@pytest.mark.parametrize(
    "arguments",
    [
        {"binarization": "threshold"},
        {"binarization": "threshold", "permute_pixels": True},
        {"binarization": "none", "num_labels": 100, "only_labelled": True},
        {"binarization": "none", "augment_shift": 8.0},
        {"binarization": "dynamic"},
    ],
)
def test_mean_image_is_that_of_the_images_that_training_sees(mnist_root: Path, arguments: dict[str, Any]) -> None:
    data = MNISTDataModule(root=str(mnist_root), batch_size=5000, val_size=50_000, **arguments)
    seen = torch.cat([data.on_after_batch_transfer(batch, 0)[0] for batch in data.train_dataloader()])
    # drawn pixels and movements differ from those of the mean by chance; of a pixel that is hardly ever white, by some images
    by_chance = data.binarization == "dynamic" or any(data.augmentation)
    tolerance = 6 * seen.std(0) / len(seen) ** 0.5 + 10 / len(seen) if by_chance else 1e-5
    assert ((data.mean_image() - seen.mean(0)).abs() <= tolerance).all()
    if data.binarization != "dynamic":
        grey = MNISTDataModule(root=str(mnist_root), binarization="none", val_size=50_000, permute_pixels=data.permute_pixels)
        assert (data.mean_image() - grey.mean_image()).abs().max() > 0.01


def test_mean_image_of_static_binarization_is_that_of_its_images(static_root: Path) -> None:
    data = MNISTDataModule(root=str(static_root), binarization="static")
    seen = torch.cat([data.on_after_batch_transfer(batch, 0)[0] for batch in data.train_dataloader()])
    assert seen.unique().tolist() == [0, 1]
    assert torch.allclose(data.mean_image(), seen.mean(0), atol=1e-6)


def test_checksums_are_of_the_files_in_use(mnist_root: Path, static_root: Path) -> None:
    for binarization in ("dynamic", "threshold"):
        assert MNISTDataModule(root=str(mnist_root), binarization=binarization).checksums() == sources.MNIST_MD5
    names = [f"binarized_mnist_{split}.amat" for split in ("test", "train", "valid")]
    assert list(MNISTDataModule(root=str(static_root), binarization="static").checksums()) == names


def test_files_are_read_once_a_data_module(mnist_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    original = sources.read
    monkeypatch.setattr(sources, "read", lambda *a, **k: calls.append(a) or original(*a, **k))
    data = MNISTDataModule(root=str(mnist_root))
    data.prepare_data()
    data.checksums()
    data.setup("fit")
    data.evaluation_images("test", 10)
    assert calls == [("mnist", str(mnist_root))]
    copied = pickle.loads(pickle.dumps(data))
    assert len(pickle.dumps(data)) < 100_000, "other processes read the files themselves"
    assert torch.equal(copied.evaluation_images("test", 10)[0], data.evaluation_images("test", 10)[0])
    assert len(calls) == 2


@pytest.mark.parametrize("binarization", ["dynamic", "static"])
def test_nothing_is_made_where_nothing_is_to_be_fetched(tmp_path: Path, binarization: str) -> None:
    data = MNISTDataModule(root=str(tmp_path / "data"), binarization=binarization)
    assert data.fetch, "unless somebody says otherwise"
    data.fetch = False
    with pytest.raises(DataError, match=r"(give root=|missing; name a folder .*: static_root=)"):
        data.evaluation_loader("test")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("few_labels", [False, True])
def test_overfitting_sees_the_same_images_in_every_epoch(
    mnist_root: Path, fast: bool, few_labels: bool, recwarn: pytest.WarningsRecorder
) -> None:
    labels = {"num_labels": 100, "labelled_batch_size": 4} if few_labels else {"augment_shift": 2.0}
    data = MNISTDataModule(root=str(mnist_root), batch_size=16, eval_batch_size=16, **labels)
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    original = data.on_after_batch_transfer

    def noted(batch: Batch, dataloader_idx: int) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = original(batch, dataloader_idx)
        if batch.source is not None:
            seen.append((x, y))
        return x, y

    data.on_after_batch_transfer = noted  # type: ignore[method-assign]
    net = {"name": "mlp", "hidden": [8]}
    model = M2(latent_dim=2, net=net, classifier="classifier_mlp") if few_labels else VAE(latent_dim=2, net=net)
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = L.Trainer(max_epochs=3, overfit_batches=2, enable_checkpointing=False, num_sanity_val_steps=0, **quiet)
    if fast:
        assert install(trainer, model) is None
    trainer.fit(model, datamodule=data)
    assert trainer.global_step == len(seen) == 6
    for number, (x, y) in enumerate(seen):
        assert torch.equal(x, seen[number % 2][0])
        assert torch.equal(y, seen[number % 2][1])
    assert not torch.equal(seen[0][0], seen[1][0])
    assert not [str(w.message) for w in recwarn if "shuffling" in str(w.message)]


@pytest.mark.parametrize("arguments", [{"batch_size": 0}, {"eval_batch_size": 0}, {"val_size": 0}, {"val_size": 60_000}])
def test_impossible_sizes_are_refused_by_name(arguments: dict[str, int]) -> None:
    (name,) = arguments
    with pytest.raises(ConfigurationError, match=rf"{name}="):
        MNISTDataModule(**arguments)


# ---- few labels


def with_labels(mnist_root: Path, num_labels: int | None, **arguments: Any) -> MNISTDataModule:
    return MNISTDataModule(root=str(mnist_root), binarization="none", num_labels=num_labels, **arguments)


def test_equally_many_images_a_class_keep_their_label_the_same_ones_always(mnist_root: Path) -> None:
    data = with_labels(mnist_root, 100)
    hundred, labels = data.labelled(), data._split("train")[1]
    assert labels[hundred].bincount().tolist() == [10] * 10
    assert torch.equal(hundred, with_labels(mnist_root, 100, seed=7, batch_size=10).labelled())
    assert not torch.equal(hundred, with_labels(mnist_root, 100, eval_seed=1).labelled())
    assert set(hundred.tolist()) < set(with_labels(mnist_root, 1000).labelled().tolist())


def test_training_batches_hold_both_kinds_and_evaluation_has_every_label(mnist_root: Path) -> None:
    data = with_labels(mnist_root, 100, labelled_batch_size=5, batch_size=64)
    batch = next(iter(data.train_dataloader()))
    assert len(batch.labels) == 69
    assert ((batch.labels == UNLABELLED) == (torch.arange(69) < 64)).all()
    for split in ("train", "val", "test"):
        assert data.evaluation_loader(split, 500).labels.min() == 0
    assert next(iter(data.val_dataloader())).labels.min() == 0


def test_labelled_images_can_be_trained_on_alone(mnist_root: Path) -> None:
    data = with_labels(mnist_root, 100, only_labelled=True, batch_size=30)
    loader = data.train_dataloader()
    assert [len(batch.labels) for batch in loader] == [30, 30, 30, 10]
    assert torch.cat([batch.labels for batch in loader]).bincount().tolist() == [10] * 10


def test_more_labels_of_a_class_than_there_are_is_refused(mnist_root: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"num_labels=50000: must be at most 4\d{3}0, equally many a class"):
        with_labels(mnist_root, 50_000).labelled()
    with pytest.raises(ConfigurationError, match=r"num_labels=20: must be null: of some class there is no training image"):
        with_labels(mnist_root, 20, val_size=59_999).labelled()


@pytest.mark.parametrize(
    "arguments",
    [
        {"num_labels": 0},
        {"num_labels": 15},
        {"num_labels": -10},
        {"labelled_batch_size": 0, "num_labels": 100},
        {"labelled_batch_size": 101, "num_labels": 100},
        {"only_labelled": True},
        {"augment_shift": float("inf")},
        {"augment_shift": float("nan")},
        {"augment_rotation": 181.0},
    ],
)
def test_impossible_numbers_are_refused_by_name(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=rf"{next(iter(arguments))}="):
        MNISTDataModule(**arguments)


@pytest.mark.parametrize("semi_supervised", [False, True])
def test_a_model_that_needs_every_label_is_told_so(mnist_root: Path, semi_supervised: bool) -> None:
    data = with_labels(mnist_root, 100)
    model = SimpleNamespace(semi_supervised=semi_supervised)
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    data.trainer = SimpleNamespace(lightning_module=model, global_rank=0, world_size=1, strategy=strategy)
    if semi_supervised:
        assert data.train_dataloader().labelled_batch_size == 16
    else:
        with pytest.raises(ConfigurationError, match=r"num_labels=100: .* use model=m1 or model=m2, or .*only_labelled=true"):
            data.train_dataloader()


def test_place_of_one_training_is_not_that_of_the_next(mnist_root: Path) -> None:
    module = MNISTDataModule(root=str(mnist_root), batch_size=100)
    module.setup("fit")
    module.load_state_dict({"epoch": 0, "images": 54_900})
    assert len(list(module.train_dataloader())) == 1
    module.setup("fit")  # as Lightning does at the start of each
    assert len(list(module.train_dataloader())) == 550


def test_a_batch_may_hold_all_training_images_and_no_more(tmp_path: Path) -> None:
    assert MNISTDataModule(root=str(tmp_path), batch_size=60_000, eval_batch_size=60_000).batch_size == 60_000
    for name in ("batch_size", "eval_batch_size"):
        with pytest.raises(ConfigurationError, match=f"^{name}=60001: must be from 1 to 60000"):
            MNISTDataModule(root=str(tmp_path), **{name: 60_001})
