"""One contract that every model keeps, and the steps that all of them share."""

import io
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as L
import torch
from pytorch_lightning.loggers.logger import Logger
from torch import Tensor
from torch.distributions import Distribution
from torch.func import grad, stack_module_state, vmap
from torch.utils.data import DataLoader, TensorDataset

from vae_lightning.data.loader import TensorLoader
from vae_lightning.distributions.likelihoods import LIKELIHOODS
from vae_lightning.errors import ConfigurationError, DataError
from vae_lightning.models import CVAE, IWAE, VAE, BetaVAE, CapacityVAE, Classifier
from vae_lightning.models.base import CHECKPOINT_FORMAT, EVALUATION_SEED, Module, named
from vae_lightning.noise import Source
from vae_lightning.types import Draw, LatentVariableModel, Noise

B, D = 6, 3
STEP = torch.tensor(5.0)
MLP = {"name": "mlp", "hidden": (12, 8), "activation": "tanh"}
DROPOUT = {**MLP, "dropout": 0.3}
VAMP = {"name": "vamp", "components": 7}
IAF = {"name": "iaf", "hidden": (9, 8), "context": 2}
NETS: dict[str, Any] = {"mlp": MLP, "cnn2": "cnn2", "cnn3": {"name": "cnn3", "init": "default"}}

MODELS: dict[str, Callable[[], Module]] = {
    **{
        f"vae-{net}-{likelihood}": lambda net=net, likelihood=likelihood: VAE(D, NETS[net], likelihood)
        for net in NETS
        for likelihood in LIKELIHOODS
    },
    "vae-dropout-samples": lambda: VAE(D, DROPOUT, num_samples=3),
    "vae-warmup-fixed-scale": lambda: VAE(D, MLP, {"name": "gaussian", "learn_scale": False}, kl_warmup_steps=10),
    "beta": lambda: BetaVAE(latent_dim=D, net=MLP, beta=3.0),
    "capacity": lambda: CapacityVAE(latent_dim=D, net=MLP, capacity_steps=10),
    "iwae": lambda: IWAE(latent_dim=D, net=DROPOUT, num_samples=4),
    "iwae-doubly": lambda: IWAE(latent_dim=D, net=MLP, num_samples=4, doubly_reparameterised=True),
    "iwae-doubly-warmup": lambda: IWAE(latent_dim=D, net=DROPOUT, doubly_reparameterised=True, kl_warmup_steps=10),
    **{
        f"cvae-{net}{'-prior' * prior}": lambda net=net, prior=prior: CVAE(
            latent_dim=D, net=NETS[net], prior="class" if prior else "standard"
        )
        for net in NETS
        for prior in (False, True)
    },
    "vae-mog": lambda: VAE(D, MLP, prior={"name": "mog", "components": 7}, num_samples=2),
    "vae-vamp": lambda: VAE(D, MLP, prior=VAMP, kl_warmup_steps=10),
    "vae-vamp-cnn2": lambda: VAE(D, "cnn2", prior=VAMP),
    "capacity-vamp": lambda: CapacityVAE(latent_dim=D, net=DROPOUT, prior=VAMP, capacity_steps=10),
    "iwae-doubly-vamp": lambda: IWAE(latent_dim=D, net=MLP, prior=VAMP, doubly_reparameterised=True),
    "vae-iaf": lambda: VAE(D, MLP, posterior=IAF, num_samples=2),
    "vae-iaf-cnn2-mog": lambda: VAE(D, "cnn2", posterior=IAF, prior={"name": "mog", "components": 7}),
    "iwae-iaf-conditional": lambda: IWAE(latent_dim=D, net=DROPOUT, posterior=IAF, num_classes=10, prior="class"),
    "iwae-class": lambda: IWAE(latent_dim=D, net=MLP, num_classes=10, prior="class"),
    "iwae-doubly-conditional": lambda: IWAE(latent_dim=D, net=MLP, num_classes=10, doubly_reparameterised=True),
    "classifier": lambda: Classifier({"name": "classifier_cnn", "dropout": 0.3}),
    "classifier-no-dropout": lambda: Classifier({"name": "classifier_cnn", "dropout": 0.0}, num_classes=11),
}


@pytest.fixture(params=MODELS)
def make(request: pytest.FixtureRequest) -> Callable[[], Module]:
    return MODELS[request.param]


@pytest.fixture
def model(make: Callable[[], Module]) -> Module:
    return make().double()


@pytest.fixture
def x() -> Tensor:
    return torch.rand(B, 1, 28, 28, dtype=torch.float64)


@pytest.fixture
def y() -> Tensor:
    return torch.arange(B) + 2


def part_of(noise: Noise, part: slice) -> Noise:
    """The noise of some of the images; rows of a decoder's dropout are samples x images."""
    posterior = noise.posterior[:, part] if noise.posterior.numel() else noise.posterior
    return Noise(posterior, tuple(u.unflatten(0, (-1, B))[:, part].flatten(0, 1) for u in noise.dropout))


# ---- the contract


def test_shapes(model: Module, x: Tensor, y: Tensor) -> None:
    noise = model.draw_noise(x, Source.of(x, 0))
    output = model(x, y, noise)
    if isinstance(output, Draw):
        assert isinstance(model, LatentVariableModel)
        samples = model.hparams["num_samples"]
        assert noise.posterior.shape == output.z.shape == (samples, B, D)
        for distribution, batch, event in (
            (output.posterior, (B,), (D,)),
            (output.likelihood, (samples, B), (1, 28, 28)),
            (output.prior, output.prior.batch_shape, (D,)),
        ):
            assert isinstance(distribution, Distribution)
            assert (distribution.batch_shape, distribution.event_shape) == (batch, event)
        assert output.prior.batch_shape in ((), (B,))
    else:
        assert output.shape == (B, model.num_classes)


def test_terms_are_metrics_of_each_image(model: Module, x: Tensor, y: Tensor) -> None:
    terms = model.terms(model(x, y, model.draw_noise(x, Source.of(x, 0))), x, y, STEP)
    assert "loss" in terms
    assert {term.shape for term in terms.values()} == {(B,)}
    assert all(term.isfinite().all() for term in terms.values())


def test_metric_that_judges_the_model_is_among_its_terms(model: Module, x: Tensor, y: Tensor) -> None:
    terms = model.terms(model(x, y, model.draw_noise(x, Source.of(x, 0))), x, y, STEP)
    assert model.monitor.removeprefix("val/") in terms
    assert model.monitor_mode in ("min", "max")


def test_loss_of_a_batch_is_the_mean_of_the_losses_of_its_parts(model: Module, x: Tensor, y: Tensor) -> None:
    noise = model.draw_noise(x, Source.of(x, 0))
    whole = model.terms(model(x, y, noise), x, y, STEP)
    for part in (slice(0, 2), slice(2, B)):
        terms = model.terms(model(x[part], y[part], part_of(noise, part)), x[part], y[part], STEP)
        for name, term in terms.items():
            torch.testing.assert_close(term, whole[name][part], rtol=1e-9, atol=1e-9)


def test_gradients_reach_every_parameter(model: Module, x: Tensor, y: Tensor) -> None:
    model.terms(model(x, y, model.draw_noise(x, Source.of(x, 0))), x, y, STEP)["loss"].mean().backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name
        assert p.grad.any(), name


def test_steps_downhill_lower_the_loss(model: Module, x: Tensor, y: Tensor) -> None:
    optimizer, noise = torch.optim.Adam(model.parameters(), lr=1e-3), model.draw_noise(x, Source.of(x, 0))
    losses = []
    for _ in range(6):
        loss = model.terms(model(x, y, noise), x, y, STEP)["loss"].mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0]


def test_hyperparameters_are_plain_and_rebuild_an_equal_model_from_a_safe_file(model: Module, x: Tensor, y: Tensor) -> None:
    file = io.BytesIO()
    torch.save({"hyper_parameters": dict(model.hparams), "state_dict": model.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    assert_plain(saved["hyper_parameters"])
    again = type(model)(**saved["hyper_parameters"]).double()
    again.load_state_dict(saved["state_dict"], strict=True)
    assert again.hparams == model.hparams
    noise = model.draw_noise(x, Source.of(x, 0))
    one, other = (m.terms(m(x, y, noise), x, y, STEP)["loss"] for m in (model, again))
    assert torch.equal(one, other)


def assert_plain(value: object) -> None:
    assert value is None or type(value) in (bool, int, float, str, list, dict), value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        assert_plain(item)


def test_repr_shows_the_parts(model: Module) -> None:
    text = repr(model)
    assert text.startswith(f"{type(model).__name__}(")
    for name, _ in model.named_children():
        assert f"({name}): " in text


# ---- the noise


def flat(noise: Noise) -> Tensor:
    return torch.cat([part.flatten().double() for part in (noise.posterior, *noise.dropout)])


def test_noise_depends_on_its_key_and_the_shape_of_the_images_alone(model: Module, x: Tensor) -> None:
    state = torch.get_rng_state()
    first = flat(model.draw_noise(x, Source.of(x, 1, "train", 0, 0)))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    model.eval()
    assert torch.equal(flat(model.draw_noise(1 - x, Source.of(x, 1, "train", 0, 0))), first)
    others = [flat(model.draw_noise(x, Source.of(x, *key))) for key in ((2, "train", 0, 0), (1, "val", 0, 0), (1, "train", 0, 1))]
    assert [torch.equal(other, first) for other in others] == [first.numel() == 0] * 3


def test_noise_is_normal_for_the_posterior_and_uniform_for_dropout(make: Callable[[], Module]) -> None:
    model = make()
    x = torch.zeros(3000, 1, 28, 28)
    noise = model.draw_noise(x, Source.of(x, 0))
    assert bool(noise.posterior.numel()) == (not isinstance(model, Classifier))
    spec = model.hparams["net"]
    assert bool(noise.dropout) == (isinstance(spec, dict) and spec.get("dropout", 0.0) > 0)
    if noise.posterior.numel():
        count = noise.posterior.numel()
        assert abs(noise.posterior.mean().item()) < 5 / count**0.5
        assert abs(noise.posterior.var().item() - 1) < 5 * (2 / count) ** 0.5
    for uniform in noise.dropout:
        count = uniform.numel()
        assert uniform.min() >= 0
        assert uniform.max() < 1
        assert abs(uniform.mean().item() - 0.5) < 5 * (1 / 12 / count) ** 0.5


def test_evaluation_drops_nothing(model: Module, x: Tensor) -> None:
    assert model.draw_noise(x, Source.of(x, 0), training=False).dropout == ()


def test_forward_is_a_function_of_images_labels_and_noise(model: Module, x: Tensor, y: Tensor) -> None:
    noise = model.draw_noise(x, Source.of(x, 0))
    first = model.terms(model(x, y, noise), x, y, STEP)["loss"]
    torch.manual_seed(99)
    model.eval()  # modes switch nothing
    assert torch.equal(model.terms(model(x, y, noise), x, y, STEP)["loss"], first)


@pytest.mark.parametrize("name", ["vae-dropout-samples", "classifier"])
def test_dropout_noise_changes_the_loss(name: str, x: Tensor, y: Tensor) -> None:
    model = MODELS[name]().double()
    noise = model.draw_noise(x, Source.of(x, 0))
    dropped, whole = (model.terms(model(x, y, n), x, y, STEP)["loss"] for n in (noise, Noise(noise.posterior)))
    assert (dropped != whole).all()


# ---- the loss as a pure function


def test_functional_loss_has_the_loss_and_gradients_of_the_ordinary_path(model: Module, x: Tensor, y: Tensor) -> None:
    noise = model.draw_noise(x, Source.of(x, 0))
    terms = model.terms(model(x, y, noise), x, y, STEP)
    terms["loss"].mean().backward()
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    gradients, functional_terms = grad(model.functional_loss, has_aux=True)(parameters, x, y, noise, STEP)
    for name, term in terms.items():
        torch.testing.assert_close(functional_terms[name], term.detach(), rtol=1e-12, atol=1e-12)
    for name, p in model.named_parameters():
        assert p.grad is not None
        torch.testing.assert_close(gradients[name], p.grad, rtol=1e-9, atol=1e-12 * p.grad.abs().max().item())


def test_functional_loss_looks_at_the_parameters_given_only(model: Module, x: Tensor, y: Tensor) -> None:
    noise = model.draw_noise(x, Source.of(x, 0))
    parameters = {name: p.detach().clone() for name, p in model.named_parameters()}
    before, _ = model.functional_loss(parameters, x, y, noise, STEP)
    for p in model.parameters():
        torch.nn.init.constant_(p, 0.01)
    after, _ = model.functional_loss(parameters, x, y, noise, STEP)
    assert torch.equal(before, after)


def test_several_models_are_stepped_at_once(make: Callable[[], Module], x: Tensor, y: Tensor) -> None:
    models = [make().double() for _ in range(2)]
    noise = models[0].draw_noise(x, Source.of(x, 0))
    stacked = {name: p.detach() for name, p in stack_module_state(models)[0].items()}
    step = vmap(grad(models[0].functional_loss, has_aux=True), in_dims=(0, None, None, None, None))
    gradients, terms = step(stacked, x, y, noise, STEP)
    for number, model in enumerate(models):
        own = model.terms(model(x, y, noise), x, y, STEP)["loss"]
        own.mean().backward()
        torch.testing.assert_close(terms["loss"][number], own.detach(), rtol=1e-9, atol=1e-9)
        for name, p in model.named_parameters():
            assert p.grad is not None
            torch.testing.assert_close(gradients[name][number], p.grad, rtol=1e-7, atol=1e-9 * p.grad.abs().max().item())


# ---- the steps under a trainer


class Memory(Logger):
    """Keeps what is logged."""

    name, version = "memory", "0"

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int, dict[str, float]]] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append((step or 0, dict(metrics)))

    def log_hyperparams(self, *_: Any, **__: Any) -> None: ...

    def of(self, name: str) -> list[float]:
        return [metrics[name] for _, metrics in self.rows if name in metrics]


def test_loss_is_not_logged_under_the_name_of_a_metric_that_training_does_not_have(tmp_path: Path) -> None:
    class Judged(VAE):
        monitor = "val/score"

    memory = Memory()
    trained = trainer(logger=memory, log_every_n_steps=2, default_root_dir=tmp_path)
    trained.fit(Judged(D, MLP), loader())
    assert memory.of("train/score") == []
    assert len(memory.of("train/loss")) == len(memory.of("train/elbo")) == 3
    assert "train/loss" in trained.progress_bar_metrics


def trainer(**arguments: Any) -> L.Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    return L.Trainer(**{"accelerator": "cpu", "max_epochs": 1, "logger": False, **quiet, **arguments})


def loader(count: int = 22, size: int = 4) -> DataLoader[Any]:
    source = torch.Generator().manual_seed(3)
    return DataLoader(TensorDataset(torch.rand(count, 1, 28, 28, generator=source).round(), torch.arange(count) % 10), size)


def standing(**arguments: Any) -> VAE:
    """A model whose training moves nothing, so that every metric of an epoch is of the same weights."""
    torch.manual_seed(0)
    return VAE(**{"latent_dim": 2, "net": MLP, "optimizer": {"name": "sgd", "lr": 1e-30}, **arguments})


def elbos(model: VAE, data: DataLoader[Any], seed: int, split: str, *key: int) -> Tensor:
    """What the steps should find, one number an image."""
    found = []
    for number, (x, y) in enumerate(data):
        noise = model.draw_noise(x, Source.of(x, split, seed, *key, number), training=split == "train")
        found.append(model.terms(model(x, y, noise), x, y, STEP)["elbo"].detach())
    return torch.cat(found).double()


pytestmark = pytest.mark.filterwarnings("ignore:.*val_dataloader.*", "ignore:.*number of training batches.*")


def test_means_of_an_epoch_are_over_its_images_and_not_its_batches() -> None:
    model, data = standing(seed=7), loader(22, 4)  # the last batch is a half one
    trainer(max_epochs=2).fit(model, data)
    assert model.epoch_means["train/elbo"] == pytest.approx(elbos(model, data, 7, "train", 1).mean().item(), rel=1e-6)


@pytest.mark.parametrize(("accumulate", "every"), [(1, 1), (1, 3), (2, 1), (2, 3), (3, 2)])
def test_logged_means_are_over_every_image_since_the_last_time(accumulate: int, every: int) -> None:
    model, data, memory = standing(), loader(48, 4), Memory()
    fit = trainer(accumulate_grad_batches=accumulate, log_every_n_steps=every, logger=memory)
    fit.fit(model, data)
    images = 4 * accumulate * every
    expected = elbos(model, data, 0, "train", 0).split(images)
    assert memory.of("train/elbo") == pytest.approx([part.mean().item() for part in expected if len(part) == images], rel=1e-6)


def test_validation_and_test_are_means_over_images_with_the_same_noise_for_every_run() -> None:
    data = loader(22, 4)
    metrics = []
    for seed in (1, 2):
        model = standing(seed=seed)
        torch.manual_seed(seed + 10)
        trainer().validate(model, data, verbose=False)
        trainer().test(model, data, verbose=False)
        metrics.append(model.evaluation_means)
    assert metrics[0] == metrics[1]
    for split in ("val", "test"):
        expected = elbos(model, data, EVALUATION_SEED, split).mean().item()
        assert metrics[0][f"{split}/elbo"] == pytest.approx(expected, rel=1e-6)
    assert metrics[0]["val/elbo"] != metrics[0]["test/elbo"]


def test_seed_decides_the_noise_of_training() -> None:
    means = []
    for seed in (1, 1, 2):
        model = standing(seed=seed)
        trainer().fit(model, loader())
        means.append(model.epoch_means["train/elbo"])
    assert means[0] == means[1] != means[2]


@pytest.mark.parametrize("labels", [torch.tensor([0, 10]), torch.tensor([-1, 3])])
def test_labels_out_of_range_are_refused(labels: Tensor) -> None:
    data = DataLoader(TensorDataset(torch.rand(2, 1, 28, 28), labels), 2)
    with pytest.raises(DataError, match="but the model knows 0 to 9"):
        trainer().fit(CVAE(net=MLP), data)
    trainer().fit(VAE(net=MLP), data)  # an unconditional model does not look at them


def test_checkpoint_says_its_format_and_is_safe_to_load(tmp_path: Path) -> None:
    fit, model = trainer(), standing()
    fit.fit(model, loader())
    fit.save_checkpoint(tmp_path / "last.ckpt")
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert checkpoint["vae_lightning"]["format"] == CHECKPOINT_FORMAT
    again = VAE.load_from_checkpoint(tmp_path / "last.ckpt")
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)


@pytest.mark.parametrize("accumulate", [1, 2, 3])
def test_epochs_of_a_schedule_are_those_of_training(accumulate: int) -> None:
    """5 batches by twos are 3 steps, the last with one batch: Burda's second stage starts with the second epoch."""

    class Watched(VAE):
        rates: list[float]

        def on_train_epoch_start(self) -> None:
            super().on_train_epoch_start()
            self.rates = [*getattr(self, "rates", []), self.trainer.optimizers[0].param_groups[0]["lr"]]

    model = Watched(latent_dim=2, net=MLP, optimizer={"name": "sgd", "lr": 1e-6}, lr_schedule="burda")
    trainer(max_epochs=5, accumulate_grad_batches=accumulate).fit(model, loader(20, 4))
    stages = [0, 1, 1, 1, 2]
    assert model.rates == pytest.approx([1e-6 * 10 ** (-stage / 7) for stage in stages])


def test_cosine_schedule_ends_with_the_run() -> None:
    model, fit = VAE(latent_dim=2, net=MLP, lr_schedule="cosine"), trainer(max_epochs=3)
    fit.fit(model, loader())
    assert fit.optimizers[0].param_groups[0]["lr"] == pytest.approx(0, abs=1e-12)


def test_schedule_of_an_endless_run_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"lr_schedule=cosine: needs max_epochs or max_steps of the trainer"):
        trainer(max_epochs=-1).fit(VAE(latent_dim=2, net=MLP, lr_schedule="cosine"), loader())


def test_module_leaves_the_mathematics_to_its_children() -> None:
    module, x = Module(), torch.zeros(1, 1, 28, 28)
    for call in (lambda: module.draw_noise(x, Source.of(x)), lambda: module(x), lambda: module.terms(None, x, x, STEP)):
        with pytest.raises(NotImplementedError):
            call()


def test_named_is_a_plain_copy() -> None:
    assert named("mlp") == {"name": "mlp"}
    spec = {"name": "mlp", "hidden": (1, 2), "deep": {"list": [(3,)]}}
    plain = named(spec)
    assert_plain(plain)
    assert plain == {"name": "mlp", "hidden": [1, 2], "deep": {"list": [[3]]}}
    assert spec["hidden"] == (1, 2)


def test_noise_of_a_training_step_is_that_of_the_images_that_the_loader_has_dealt(monkeypatch: pytest.MonkeyPatch) -> None:
    """A training that goes on within an epoch with another batch size has other batch numbers than its loader."""
    images = torch.zeros(40, 1, 28, 28, dtype=torch.uint8)
    loader = TensorLoader(images, torch.zeros(40, dtype=torch.int64), 5, seed=0)
    loader.load_state_dict({"epoch": 0, "images": 20})
    batch = next(iter(loader))
    model = standing()
    monkeypatch.setattr(VAE, "trainer", SimpleNamespace(train_dataloader=loader))
    monkeypatch.setattr(VAE, "current_epoch", 0)
    assert batch.source is not None
    assert torch.equal(model.training_source(batch.images, 2).places, batch.source.places)
