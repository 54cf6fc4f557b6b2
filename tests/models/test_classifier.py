"""The classifier's loss, accuracy and prediction."""

import math

import pytest
import torch
from torch import Tensor

from vae_lightning.errors import ConfigurationError
from vae_lightning.models import Classifier
from vae_lightning.noise import Source

STEP = torch.tensor(0.0)


@pytest.fixture
def x() -> Tensor:
    return torch.rand(5, 1, 28, 28)


def test_loss_is_minus_the_log_probability_of_the_right_class(x: Tensor) -> None:
    model, y = Classifier(), torch.tensor([3, 1, 4, 1, 5])
    logits = model(x, y, model.draw_noise(x, Source.of(x, 0)))
    terms = model.terms(logits, x, y, STEP)
    torch.testing.assert_close(terms["loss"], -logits.softmax(-1)[torch.arange(5), y].log())


def test_loss_of_a_classifier_that_knows_nothing_is_log_of_the_number_of_classes(x: Tensor) -> None:
    model = Classifier(num_classes=7)
    terms = model.terms(torch.zeros(5, 7), x, torch.arange(5), STEP)
    torch.testing.assert_close(terms["loss"], torch.full((5,), math.log(7)))


def test_accuracy_is_one_where_the_class_is_right(x: Tensor) -> None:
    logits = torch.eye(10)[[3, 1, 4, 1, 5]]
    terms = Classifier().terms(logits, x, torch.tensor([3, 1, 4, 2, 0]), STEP)
    assert terms["accuracy"].tolist() == [1, 1, 1, 0, 0]


def test_prediction_is_a_distribution_over_classes_without_dropout(x: Tensor) -> None:
    model = Classifier()
    probabilities = model.predict(x)
    assert probabilities.shape == (5, 10)
    assert not probabilities.requires_grad
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(5))
    assert torch.equal(probabilities, model.predict(x))
    torch.testing.assert_close(probabilities, model(x).softmax(-1))


def test_labels_are_not_looked_at(x: Tensor) -> None:
    model = Classifier()
    assert torch.equal(model(x), model(x, torch.full((5,), 99)))


def test_judged_by_accuracy() -> None:
    assert (Classifier.monitor, Classifier.monitor_mode) == ("val/accuracy", "max")


@pytest.mark.parametrize("num_classes", [1, 0, -1])
def test_there_must_be_something_to_tell_apart(num_classes: int) -> None:
    with pytest.raises(ConfigurationError, match=rf"num_classes={num_classes}: must be at least 2"):
        Classifier(num_classes=num_classes)


def test_features_are_what_the_last_layer_makes_the_logits_of(x: Tensor) -> None:
    model = Classifier(num_classes=7)
    features = model.features(x)
    assert features.shape == (5, 256)
    assert not features.requires_grad
    torch.testing.assert_close(model.net.body[-1](features), model(x))


def test_net_without_features_says_so(x: Tensor) -> None:
    model = Classifier()
    model.net = torch.nn.Linear(1, 1)
    with pytest.raises(NotImplementedError, match=r"a Linear has no features\(x\)"):
        model.features(x)
