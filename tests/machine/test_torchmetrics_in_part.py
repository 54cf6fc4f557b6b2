"""Lightning loads two classes of torchmetrics, and whoever uses the rest gets the rest."""

import subprocess
import sys

import pytest

CODE = """
import sys
import vae_lightning
assert not {"torch", "torchmetrics"} & set(sys.modules)
import pytorch_lightning
heavy = {"torchmetrics.functional", "matplotlib", "scipy", "torchvision"} & set(sys.modules)
assert not heavy, heavy

import torch
import torchmetrics
assert torchmetrics.__version__
assert not hasattr(torchmetrics, "__wrapped__")
assert issubclass(torchmetrics.Metric, torch.nn.Module) and "torchmetrics.functional" not in sys.modules


class Sum(torchmetrics.Metric):
    def __init__(self):
        super().__init__()
        self.add_state("total", torch.zeros(()))

    def update(self, values):
        self.total += values.sum()

    def compute(self):
        return self.total


metric = Sum()
metric.update(torch.ones(3))
assert metric.compute() == 3
assert "matplotlib" not in sys.modules
figure, _ = metric._plot()
assert type(figure).__module__ == "matplotlib.figure"

accuracy = torchmetrics.Accuracy(task="multiclass", num_classes=2)
assert accuracy(torch.tensor([0, 1]), torch.tensor([0, 0])) == 0.5
assert isinstance(accuracy, torchmetrics.Metric) and type(torchmetrics).__name__ == "module"
try:
    torchmetrics.Acuracy
except AttributeError as error:
    assert "Acuracy" in str(error)
else:
    raise AssertionError("a name that is not there")
from torchmetrics import functional, aggregation
assert functional.accuracy and aggregation.MeanMetric is torchmetrics.MeanMetric
"""


@pytest.mark.slow
def test_rest_is_there_when_it_is_asked_for() -> None:
    result = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]


def test_torchmetrics_that_was_imported_before_stays_as_it_is() -> None:
    code = "import sys, types; sys.modules['torchmetrics'] = types.ModuleType('torchmetrics'); import vae_lightning"
    check = "assert not any('torchmetrics_in_part' in type(finder).__module__ for finder in sys.meta_path)"
    result = subprocess.run([sys.executable, "-c", f"{code}; {check}"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
