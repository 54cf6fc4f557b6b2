"""Priors and posteriors with one fault each, and the sentence that finds it."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal, StudentT

from vae_lightning.distributions.posteriors import Posterior
from vae_lightning.distributions.priors import ClassPrior, Encode, MixturePrior, Prior
from vae_lightning.distributions.sampling import diagonal_gaussian
from vae_lightning.testing.latents import check_posterior, check_prior


class Changed(Independent):
    """A diagonal Gaussian with a fault in its log_prob or in its samples."""

    def __init__(self, loc: Tensor, log_variance: Tensor, fault: str) -> None:
        super().__init__(Normal(loc, (0.5 * log_variance).exp(), validate_args=False), 1, validate_args=False)
        self.fault = fault

    def log_prob(self, value: Tensor) -> Tensor:
        if self.fault == "constant left out":
            return -0.5 * ((value - self.mean) / self.stddev).square().sum(-1)
        log_prob = super().log_prob(value)
        return log_prob.mean() if self.fault == "one number" else log_prob

    def from_noise(self, epsilon: Tensor) -> Tensor:
        if self.fault == "variance for scale":
            return self.mean + self.variance * epsilon
        if self.fault == "own noise":
            return self.mean + self.stddev * torch.randn_like(epsilon)
        if self.fault == "no noise":
            return (self.mean + self.stddev).expand(epsilon.shape)
        if self.fault == "detached":
            return (self.mean + self.stddev * epsilon).detach()
        return self.mean + self.stddev * epsilon


class OwnPrior(Prior):
    def __init__(self, fault: str = "", num_classes: int = 0) -> None:
        super().__init__()
        self.fault = fault
        self.loc, self.log_variance = nn.Parameter(torch.randn(2)), nn.Parameter(torch.full((2,), 0.5))
        self.of_class = nn.Parameter(torch.randn(4, 2), requires_grad=num_classes > 0)
        self.idle = nn.Parameter(torch.zeros(()), requires_grad=fault == "idle")

    def forward(self, y: Tensor | None, encode: Encode) -> Distribution:
        loc = self.loc
        if self.fault == "labels" and y is not None:
            loc = loc + y[:, None]
        if self.of_class.requires_grad and y is not None:
            loc = loc + self.of_class[y] + (self.of_class[y].mean(0) if self.fault == "other labels" else 0)
        if self.fault == "batch":
            loc = loc.expand(3, 2)
        if self.fault == "no event":
            return Normal(loc, 1.0)
        return Changed(loc, self.log_variance, self.fault)


FAULTS = {
    "constant left out": r"the density integrates to exp\(2\.338\), not to 1",
    "variance for scale": r"the mean of log_prob over samples from noise is \S+, and \S+ by integration: the samples do not follow",
    "own noise": "from_noise gives another sample of the same noise",
    "no noise": "from_noise gives one sample whatever the noise",
    "one number": r"log_prob has shape \(\), not \(3",
}
PRIOR_FAULTS = {
    **FAULTS,
    "labels": "OwnPrior: depends on labels, and num_classes is 0",
    "batch": r"the batch shape is \(3,\), not \(\)",
    "no event": r"the event shape is \(\), not \(2,\)",
    "idle": "no gradient of OwnPrior: log_prob reaches idle",
}


def test_priors_without_a_fault_pass() -> None:
    check_prior(OwnPrior())
    check_prior(OwnPrior(num_classes=4), num_classes=4)
    check_prior(ClassPrior(latent_dim=1, num_classes=4), num_classes=4, latent_dim=1)


def test_heavy_tails_are_integrated_too() -> None:
    class Heavy(Prior):
        def forward(self, y: Tensor | None, encode: Encode) -> Distribution:
            class Student(Independent):
                def from_noise(self, epsilon: Tensor) -> Tensor:
                    source = torch.Generator().manual_seed(int(1e6 * float(epsilon.abs().sum())) % 2**31)
                    chi = torch.randn(*epsilon.shape, 4, generator=source, dtype=epsilon.dtype).square().sum(-1)
                    return epsilon / (chi / 4).sqrt()

            return Student(StudentT(torch.full((2,), 4.0)), 1)

    check_prior(Heavy())


@pytest.mark.parametrize("fault", PRIOR_FAULTS)
def test_a_fault_of_a_prior_is_named(fault: str) -> None:
    with pytest.raises(AssertionError, match=PRIOR_FAULTS[fault]):
        check_prior(OwnPrior(fault))


def test_a_label_that_changes_with_the_others_is_named() -> None:
    with pytest.raises(AssertionError, match=r"p\(z \| y\) of one label changes with the other labels of the batch"):
        check_prior(OwnPrior("other labels", num_classes=4), num_classes=4)


def test_what_is_no_module_is_named() -> None:
    for check in (check_prior, check_posterior):
        with pytest.raises(AssertionError, match=r"^function is no torch\.nn\.Module"):
            check(lambda *_: Normal(0.0, 1.0))


def test_more_dimensions_than_can_be_integrated_are_refused() -> None:
    with pytest.raises(AssertionError, match="latent_dim=3 cannot be integrated; make one of 1 or 2 dimensions"):
        check_prior(MixturePrior(latent_dim=3, num_classes=0, components=2), latent_dim=3)


class OwnPosterior(Posterior):
    def __init__(self, fault: str = "") -> None:
        super().__init__()
        self.fault = fault
        self.gaussian = fault != "says nothing"

    def forward(self, loc: Tensor, log_variance: Tensor) -> Distribution:
        if self.fault == "shared":
            return diagonal_gaussian(loc, log_variance.mean(0).expand_as(loc))
        if self.fault == "one head":
            return diagonal_gaussian(loc, torch.zeros_like(log_variance))
        if self.fault == "correlated":
            scale = torch.tensor([[1.0, 0.0], [0.5, 1.0]], dtype=loc.dtype)
            return torch.distributions.MultivariateNormal(loc + log_variance, scale_tril=scale.expand(len(loc), 2, 2))
        return Changed(loc, log_variance, self.fault)


POSTERIOR_FAULTS: dict[str, Any] = {
    **{fault: sentence.replace("2.338", r"\S+").replace(r"2\.338", r"\S+") for fault, sentence in FAULTS.items()},
    "shared": r"log_prob of one image changes by \S+ with the other images of its batch",
    "detached": "no gradient of a sample reaches the encoder$",
    "one head": "no gradient of a sample reaches the encoder's log-variance",
    "correlated": "says that it is a Gaussian with independent dimensions, and is not",
}


def test_posteriors_without_a_fault_pass() -> None:
    check_posterior(OwnPosterior())
    check_posterior(OwnPosterior("says nothing"))


@pytest.mark.parametrize("fault", POSTERIOR_FAULTS)
def test_a_fault_of_a_posterior_is_named(fault: str) -> None:
    with pytest.raises(AssertionError, match=POSTERIOR_FAULTS[fault]):
        check_posterior(OwnPosterior(fault))
