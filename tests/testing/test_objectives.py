"""Objectives with one fault each, and the sentence that finds it."""

import pytest
import torch
from torch import Tensor, nn

from vae_lightning.objectives.goals import ELBO, Objective
from vae_lightning.testing.objectives import check_objective
from vae_lightning.types import Terms


class Own(Objective):
    numbers = ("weight",)

    def __init__(self, fault: str = "") -> None:
        super().__init__()
        self.fault, self.weight = fault, 2.0
        self.learned, self.idle = nn.Parameter(torch.ones(())), nn.Parameter(torch.ones(()), requires_grad=fault == "idle")
        if fault == "no number":
            del self.weight
            self.weight = "two"  # type: ignore[assignment]

    def forward(self, terms: Terms) -> Tensor:
        likelihood, kl = terms.log_likelihood, terms.kl
        weight = 2.0 if self.fault == "no number" else self.weight
        value = likelihood - self.learned.exp() * weight * kl
        faults = {
            "batch's mean": lambda: value.mean(),
            "spread mean": lambda: value.mean().expand(value.shape),
            "a loss": lambda: -value,
            "encoder left out": lambda: terms.draw.likelihood.log_prob(terms.x).mean(0).detach() - self.learned * kl,
            "infinite": lambda: value + (kl - kl).log(),
            "number by isinstance": lambda: value if isinstance(self.weight, float) else value + 1,
            "keyed by name": lambda: value + terms.no_such_term,  # type: ignore[attr-defined]
        }
        result: Tensor = faults.get(self.fault, lambda: value)()
        return result

    def metrics(self, terms: Terms) -> dict[str, Tensor]:
        if self.fault == "metric with graph":
            return {"own": terms.kl}
        return {"own": terms.kl.mean().detach() if self.fault == "metric of the batch" else terms.kl.detach()}


FAULTS = {
    "batch's mean": r"the value of 4 images has shape \(\), not \(4,\)",
    "spread mean": r"the value of one image changes by \S+ with the other images of its batch",
    "a loss": r"is no higher where every image is a nat likelier, but by -1: a loss is minimised, an objective maximised",
    "encoder left out": r"no gradient of Own: the value reaches decoder\.",
    "infinite": r"the value: 4 of 4 numbers are not finite",
    "idle": r"no gradient of Own: the value reaches objective_of\.idle",
    "no number": r"`numbers` names weight, and there is no number of that name",
    "number by isinstance": "is another where its numbers are tensors",
    "keyed by name": "a call fails: AttributeError: 'Terms' object has no attribute 'no_such_term'",
    "metric with graph": "the metric own holds the graph of its gradients; detach it",
    "metric of the batch": r"the metric own has shape \(\), not \(4,\)",
}


def test_an_objective_without_a_fault_passes() -> None:
    check_objective(Own())


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named(fault: str) -> None:
    with pytest.raises(AssertionError, match=FAULTS[fault]):
        check_objective(Own(fault))


def test_a_metric_that_is_none_of_its_metrics_is_named() -> None:
    class Other(ELBO):
        metric = "own_bound"

    with pytest.raises(AssertionError, match="Other: metric is own_bound, and its metrics are elbo"):
        check_objective(Other())


def test_a_parameter_may_be_meant_to_have_no_gradient() -> None:
    check_objective(Own("idle"), unused=("idle",))
