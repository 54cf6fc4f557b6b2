"""Contracts of models: what figures and estimates ask of any, and what training asks of a `models.base.Module`."""

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vae_lightning.distributions.sampling import from_noise
from vae_lightning.models.base import Module
from vae_lightning.noise import Source, generator, global_noise
from vae_lightning.testing.claims import (
    Contract,
    agree,
    claim,
    finite,
    images_of,
    reports,
    require_gradients,
    require_independence,
    require_repeatability,
    shaped,
)
from vae_lightning.types import MNIST_SHAPE, LatentVariableModel, Noise

__all__ = ["ModelContract", "ModuleContract", "VAEContract", "check_model", "check_module"]

COUNT = 6
SAMPLES = 3
STEP = 1000.0
"""An optimizer step in the middle of a training, where warm-up has begun to weigh the KL."""


class _OnImages(Contract):
    image_shape: tuple[int, int, int] = MNIST_SHAPE
    """`(C, H, W)` of the images that the model is made for."""
    binary: bool = True
    """Whether the images are binary, rather than of grey levels."""

    def images(self, count: int = COUNT, seed: int = 0) -> Tensor:
        return images_of(self.image_shape, count, seed, self.binary)

    def model(self) -> Any:
        """The model in training mode, which no result may depend on."""
        model = self.part()
        return model.train() if isinstance(model, nn.Module) else model


class ModelContract(_OnImages):
    """A `types.LatentVariableModel`, which need not be a class of this project's.

    >>> from vae_lightning import VAE
    >>> class TestMyModel(ModelContract):
    ...     image_shape = (1, 4, 4)
    ...
    ...     def make(self) -> VAE:
    ...         return VAE(latent_dim=2, net={"name": "mlp", "hidden": [8]}, image_shape=(1, 4, 4))
    >>> TestMyModel().check()
    """

    num_classes: int = 0
    """How many classes the labels have that p(x | y) depends on; 0: the model ignores labels."""

    def labels(self, count: int = COUNT, shift: int = 0) -> Tensor | None:
        return (torch.arange(count) + shift) % self.num_classes if self.num_classes else None

    def latents(self, model: Any) -> Tensor:
        return torch.randn(SAMPLES, COUNT, model.latent_dim, generator=generator("contract", "latents"))

    def test_has_what_figures_and_estimates_ask_for(self) -> None:
        model = self.model()
        claim(
            isinstance(model, LatentVariableModel),
            f"{type(model).__name__}: is no types.LatentVariableModel, which has latent_dim, prior, posterior and likelihood",
        )
        size = model.latent_dim
        claim(isinstance(size, int) and size >= 1, f"{type(model).__name__}: latent_dim is {size}, not a number of at least 1")

    def test_prior_is_over_latents(self) -> None:
        model = self.model()
        prior = _of(model, "prior", self.labels())
        _require_shapes(model, "prior", prior, [(), (COUNT,)] if self.num_classes else [()], (model.latent_dim,))
        _require_samples(model, "prior", prior)

    def test_posterior_is_over_latents(self) -> None:
        model = self.model()
        posterior = _of(model, "posterior", self.images(), self.labels())
        _require_shapes(model, "posterior", posterior, [(COUNT,)], (model.latent_dim,))
        _require_samples(model, "posterior", posterior)
        mean = posterior.mean
        finite(shaped(mean, (COUNT, model.latent_dim), f"{type(model).__name__}: the posterior mean"), "the posterior mean")

    def test_likelihood_is_over_images(self) -> None:
        model = self.model()
        name = type(model).__name__
        for z, batch in ((self.latents(model), (SAMPLES, COUNT)), (self.latents(model)[0], (COUNT,))):
            likelihood = _of(model, "likelihood", z, self.labels())
            _require_shapes(model, "likelihood", likelihood, [batch], self.image_shape)
            with reports(f"{name}: log_prob of the likelihood"):
                log_prob = likelihood.log_prob(self.images())
            finite(shaped(log_prob, batch, f"{name}: log p(x | z)"), f"{name}: log p(x | z)")
            mean = finite(
                shaped(likelihood.mean, (*batch, *self.image_shape), f"{name}: the mean image"), f"{name}: the mean image"
            )
            low, high = (float(value) for value in mean.detach().aminmax())
            claim(low >= -1e-6 and high <= 1 + 1e-6, f"{name}: the mean image is from {low:.4g} to {high:.4g}, not within [0, 1]")

    def test_treats_each_image_by_itself(self) -> None:
        model = self.model()
        name, z = type(model).__name__, self.latents(model)[0]

        def posterior(x: Tensor) -> Tensor:
            return _of(model, "posterior", x, self.labels()).mean

        def likelihood(z: Tensor) -> Tensor:
            return _of(model, "likelihood", z, self.labels()).mean

        require_repeatability(lambda: posterior(self.images()), f"{name}: the posterior mean")
        require_repeatability(lambda: likelihood(z), f"{name}: the mean image")
        require_independence(posterior, self.images(), self.images(seed=1), f"{name}: the posterior mean")
        require_independence(likelihood, z, self.latents(model)[1], f"{name}: the mean image")

    def test_uses_labels_if_it_says_so(self) -> None:
        model = self.model()
        name, x, z = type(model).__name__, self.images(), self.latents(model)[0]
        given = [(torch.arange(COUNT) + shift) % max(2, self.num_classes) for shift in (0, 1)]
        with torch.no_grad():
            results = [
                (_of(model, "posterior", x, y).mean, _of(model, "likelihood", z, y).mean, _of(model, "prior", y).mean)
                for y in given
            ]
        same = all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(*results, strict=True))
        if self.num_classes > 1:
            claim(
                not same,
                f"{name}: num_classes is {self.num_classes}, and prior, posterior and likelihood are the same for all labels",
            )
        elif not self.num_classes:
            claim(same, f"{name}: num_classes is 0, and prior, posterior or likelihood depends on the label")


class ModuleContract(_OnImages):
    """A `models.base.Module`: a training step that is a pure function, and a model that a checkpoint can hold.

    >>> from vae_lightning import Classifier
    >>> class TestMyModule(ModuleContract):
    ...     image_shape = (1, 4, 4)
    ...
    ...     def make(self) -> Classifier:
    ...         return Classifier(net={"name": "classifier_mlp", "hidden": [8]}, num_classes=3, image_shape=(1, 4, 4))
    >>> TestMyModule().check()
    """

    unused: tuple[str, ...] = ()
    """Parameters that no gradient is meant to reach."""

    def batch(self, model: Module, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Images and labels, of as many classes as the model knows."""
        classes = getattr(model, "classes", 0) or model.num_classes
        return self.images(seed=seed), torch.arange(COUNT) % max(1, classes)

    def terms(self, model: Module, x: Tensor, y: Tensor, noise: Noise | None = None) -> dict[str, Tensor]:
        name = type(model).__name__
        noise = model.draw_noise(x, Source.of(x, "contract")) if noise is None else noise
        with reports(f"{name}: a training step"):
            terms = model.terms(model(x, y, noise), x, y, torch.tensor(STEP))
        for term, value in terms.items():
            finite(shaped(value, (len(x),), f"{name}: the term {term}"), f"{name}: the term {term}")
        return terms

    def test_terms_are_of_each_image(self) -> None:
        model = self.model()
        name, terms = type(model).__name__, self.terms(model, *self.batch(model))
        claim("loss" in terms, f"{name}: its terms are {', '.join(terms)}, and loss is not among them")
        claim(model.monitor.split("/")[-1] in terms, f"{name}: monitor is {model.monitor}, and its terms are {', '.join(terms)}")

    def test_takes_a_batch_of_one(self) -> None:
        model = self.model()
        x, y = self.batch(model)
        self.terms(model, x[:1], y[:1])

    def test_noise_is_a_function_of_its_key(self) -> None:
        model = self.model()
        name, (x, _) = type(model).__name__, self.batch(model)
        drawn = [model.draw_noise(x, Source.of(x, key)) for key in ("a", "a", "b")]
        one, again, other = (
            [noise.posterior, *noise.dropout, *([] if noise.resampling is None else [noise.resampling])] for noise in drawn
        )
        claim(all(map(torch.equal, one, again)), f"{name}: draw_noise gives other noise for the same key")
        if any(tensor.numel() for tensor in one):
            claim(not all(map(torch.equal, one, other)), f"{name}: draw_noise gives the same noise for another key")
        evaluated = model.draw_noise(x, Source.of(x, "a"), training=False)
        claim(not evaluated.dropout, f"{name}: draw_noise gives dropout noise in evaluation")
        claim(evaluated.resampling is None, f"{name}: draw_noise gives noise for resampling in evaluation")

    def test_step_depends_on_given_noise_alone(self) -> None:
        model = self.model()
        x, y = self.batch(model)
        noise = model.draw_noise(x, Source.of(x, "contract"))
        require_repeatability(lambda: self.terms(model, x, y, noise)["loss"], f"{type(model).__name__}: the loss")

    def test_treats_each_image_by_itself(self) -> None:
        model = self.model()
        x, y = self.batch(model)
        noise = model.draw_noise(x, Source.of(x, "contract"))
        for term in self.terms(model, x, y):
            require_independence(
                lambda images, term=term: self.terms(model, images, y, noise)[term],  # type: ignore[misc]
                x,
                self.images(seed=1),
                f"{type(model).__name__}: the term {term}",
            )

    def test_labels_matter_only_to_a_model_with_classes(self) -> None:
        model = self.model()
        x, y = self.batch(model)
        classes = getattr(model, "classes", 0) or model.num_classes
        if classes == 1:
            return
        own, other = (self.terms(model, x, labels)["loss"] for labels in (y, (y + 1) % max(2, classes)))
        if classes:
            claim(not torch.equal(own, other), f"{type(model).__name__}: the loss is the same for all labels of {classes} classes")
        else:
            claim(torch.equal(own, other), f"{type(model).__name__}: num_classes is 0, and the loss depends on the labels")

    def test_gradients_reach_every_parameter(self) -> None:
        model = self.model()
        require_gradients(
            model, self.terms(model, *self.batch(model))["loss"].mean(), self.unused, f"{type(model).__name__}: the loss"
        )

    def test_step_is_a_pure_function_of_its_parameters(self) -> None:
        model = self.model()
        name, (x, y) = type(model).__name__, self.batch(model)
        noise, step = model.draw_noise(x, Source.of(x, "contract")), torch.tensor(STEP)
        loss = self.terms(model, x, y, noise)["loss"].mean()
        parameters = {key: p for key, p in model.named_parameters() if p.requires_grad}
        expected = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        with reports(f"{name}: torch.func.grad of functional_loss"):
            detached = {key: p.detach() for key, p in parameters.items()}
            gradients, (value, _) = torch.func.grad_and_value(model.functional_loss, has_aux=True)(detached, x, y, noise, step)
        claim(
            agree(value, loss), f"{name}: functional_loss is {value.item():.6g}, and the loss of a training step {loss.item():.6g}"
        )
        for (key, gradient), own in zip(gradients.items(), expected, strict=True):
            same = agree(gradient, torch.zeros_like(gradient) if own is None else own, 1e-3)
            claim(same, f"{name}: the gradient of functional_loss with respect to {key} is not that of a training step")

    def test_is_rebuilt_from_its_checkpoint(self) -> None:
        model = self.model()
        name, (x, y) = type(model).__name__, self.batch(model)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.01 * torch.randn(parameter.shape, generator=generator("contract", "weights")))
        with reports(f"{name}: building it anew from its hparams"), global_noise(1, torch.device("cpu")):
            rebuilt = type(model)(**model.hparams)
        with reports(f"{name}: loading its own state_dict"):
            rebuilt.load_state_dict(model.state_dict())
        own, other = self.terms(model, x, y), self.terms(rebuilt, x, y)
        for term, value in own.items():
            claim(
                term in other and agree(value, other[term], 1e-6),
                f"{name}: {term} is another after state_dict and hparams have been loaded: what it depends on is in neither",
            )

    def test_optimizer_and_schedule_take_a_step(self) -> None:
        model = self.model()
        with reports(f"{type(model).__name__}: a step of its optimizer"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, of a schedule that is asked before the first step
            model.rehearse_optimizer()


class VAEContract(ModuleContract, ModelContract):
    """A model with both sides: what estimates and figures ask for, and what training does.

    >>> from vae_lightning import BetaVAE
    >>> class TestMyVAE(VAEContract):
    ...     image_shape = (1, 4, 4)
    ...
    ...     def make(self) -> BetaVAE:
    ...         return BetaVAE(latent_dim=2, net={"name": "mlp", "hidden": [8]}, image_shape=(1, 4, 4))
    >>> TestMyVAE().check()
    """

    def test_treats_each_image_by_itself(self) -> None:
        ModelContract.test_treats_each_image_by_itself(self)
        ModuleContract.test_treats_each_image_by_itself(self)


def _of(model: Any, what: str, *arguments: Tensor | None) -> Distribution:
    shapes = ", ".join("None" if value is None else str(tuple(value.shape)) for value in arguments)
    with reports(f"{type(model).__name__}: {what} of {shapes}"):
        distribution: Distribution = getattr(model, what)(*arguments)
    return distribution


def _require_shapes(
    model: Any, what: str, distribution: Distribution, batches: list[tuple[int, ...]], event: tuple[int, ...]
) -> None:
    name, batch = f"{type(model).__name__}: the {what}", tuple(distribution.batch_shape)
    claim(batch in batches, f"{name} has batch shape {batch}, not {' or '.join(map(str, batches))}")
    claim(tuple(distribution.event_shape) == event, f"{name} has event shape {tuple(distribution.event_shape)}, not {event}")


def _require_samples(model: Any, what: str, distribution: Distribution) -> None:
    """Claim that noise becomes samples, `(K, B, D)`, whose density is finite."""
    name = f"{type(model).__name__}: a sample of the {what}"
    epsilon = torch.randn(SAMPLES, COUNT, model.latent_dim, generator=generator("contract", "noise"))
    with reports(f"{name} from noise"):
        z = from_noise(distribution, epsilon)
        log_prob = distribution.log_prob(z)
    finite(shaped(z, epsilon.shape, name), name)
    finite(shaped(log_prob, (SAMPLES, COUNT), f"{name}: log_prob"), f"{name}: log_prob")


def check_model(model: Any, **settings: Any) -> None:
    """Hold `model` to `VAEContract` if it is a `Module` of this project, and to `ModelContract` if not.

    Args:
        settings: attributes of the contract; `image_shape` and `num_classes` are the model's own where it has them.

    Raises:
        AssertionError: one sentence that names what fails.
    """
    own = {name: getattr(model, name) for name in ("image_shape", "num_classes") if hasattr(model, name)}
    contract = VAEContract if isinstance(model, Module) else ModelContract
    contract.of(model, **{**own, **settings}).check()


def check_module(model: Module, **settings: Any) -> None:
    """Hold `model`, which need not have latents, to `ModuleContract`; `settings` are that class's attributes.

    Raises:
        AssertionError: one sentence that names what fails.
    """
    own = {"image_shape": model.image_shape} if hasattr(model, "image_shape") else {}
    ModuleContract.of(model, **{**own, **settings}).check()
