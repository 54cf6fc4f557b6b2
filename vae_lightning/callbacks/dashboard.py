"""A run's page in TensorBoard: texts, the layout of charts, HParams, the Projector, a classifier's errors.

HParams gets no list of columns: TensorBoard then takes the columns from all runs that it shows, those that differ first. So a
sweep shows what was swept, also beside runs of other models.
"""

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as L
from pytorch_lightning.callbacks import Callback
from torch import Tensor
from torch.nn.functional import pad

from vae_lightning.abilities import labels_of, predicts
from vae_lightning.callbacks.looking import fixed_images, undisturbed, unpermuted, writer_of
from vae_lightning.glossary import GLOSSARY
from vae_lightning.inference.chunks import over_chunks
from vae_lightning.objectives.bounds import kl_per_dimension
from vae_lightning.types import LatentVariableModel

__all__ = ["CLASSIFIER_LAYOUT", "LATENT_LAYOUT", "Dashboard"]

NUM_PROJECTED = 1000
"""Test images that the Projector shows."""

Layout = dict[str, dict[str, list[Any]]]
"""Category, chart, and what `SummaryWriter.add_custom_scalars` takes of a chart: its kind and regular expressions of tags."""

_TRAINING = {
    "gradient norm": ["Multiline", ["train/gradient_norm"]],
    "throughput (images a second)": ["Multiline", ["time/images_per_second"]],
    "learning rate": ["Multiline", ["(train/)?lr(-.*)?$"]],
}
LATENT_LAYOUT: Layout = {
    "latent-variable model": {
        "bounds of log p(x) (nats)": ["Multiline", ["(train|val)/(elbo|iwae_bound)"]],
        "reconstruction against KL (nats)": ["Multiline", ["(train|val)/(log_likelihood|kl)$"]],
        "KL of each latent dimension (nats)": ["Multiline", ["val/kl_per_dimension/.*"]],
        "active units": ["Multiline", ["val/active_units"]],
    },
    "training": _TRAINING,
}
CLASSIFIER_LAYOUT: Layout = {
    "classifier": {
        "cross-entropy (nats)": ["Multiline", ["(train|val)/loss"]],
        "accuracy": ["Multiline", ["(train|val)/accuracy"]],
    },
    "training": _TRAINING,
}


class Dashboard(Callback):
    """Writes a run's texts, layout and hyperparameters as training starts; after the test, the Projector or a classifier's errors.

    Args:
        texts: Markdown by tag, beside the glossary of metrics.
        hyperparameters: what HParams shows of this run, by name.

    >>> dashboard = Dashboard({"config": "seed: 0"}, {"seed": 0})
    >>> sorted(dashboard.texts), dashboard.hyperparameters
    (['config', 'glossary'], {'seed': 0})
    """

    def __init__(self, texts: Mapping[str, str] | None = None, hyperparameters: Mapping[str, float | str] | None = None) -> None:
        self.texts = {"glossary": _table(GLOSSARY), **(texts or {})}
        self.hyperparameters = dict(hyperparameters or {})

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        writer = writer_of(trainer)
        if writer is None:
            return
        for tag, text in self.texts.items():
            writer.add_text(tag, text, trainer.global_step)
        if isinstance(pl_module, LatentVariableModel):
            writer.add_custom_scalars(LATENT_LAYOUT)
        elif predicts(pl_module):
            writer.add_custom_scalars(CLASSIFIER_LAYOUT)
        writer._get_file_writer().add_summary(_session(self.hyperparameters)[0])

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        writer = writer_of(trainer)
        if writer is None:
            return
        if isinstance(pl_module, LatentVariableModel):
            _project(trainer, pl_module, writer)
        elif predicts(pl_module):
            _classify(trainer, pl_module, writer)
        writer._get_file_writer().add_summary(_session(self.hyperparameters)[1])


def _session(hyperparameters: dict[str, float | str]) -> tuple[Any, Any]:
    """The two records by which TensorBoard knows that a run with these hyperparameters started, and that the run ended well."""
    from torch.utils.tensorboard.summary import hparams

    _, start, end = hparams(hyperparameters, {})
    return start, end


def _project(trainer: L.Trainer, model: LatentVariableModel, writer: Any) -> None:
    """Give the Projector the posterior means of test images, with label and KL, and the images to show in place of points."""
    images = fixed_images(trainer, "test", NUM_PROJECTED)
    if images is None:
        return
    x, y = images
    assert isinstance(model, L.LightningModule)
    with undisturbed(trainer, model):
        posterior = model.posterior(x, y)
        try:
            divergences = [f"{nats:.1f}" for nats in kl_per_dimension(posterior, model.prior(y)).sum(-1).tolist()]
        except NotImplementedError:  # the KL of this posterior is no sum over dimensions
            divergences = [""] * len(x)
        means = posterior.mean.float().cpu()
    labels = labels_of(trainer.datamodule, y)  # type: ignore[attr-defined]
    rows, sprites = list(zip(labels.listed(y.tolist()), divergences, strict=True)), _squares(unpermuted(trainer, x))
    writer.add_embedding(means, rows, sprites, trainer.global_step, "test_posterior_means", ["label", "kl"])


def _squares(images: Tensor) -> Tensor:
    """Images `(N, C, H, W)` with a border that makes them square, as the Projector wants its sprites."""
    height, width = images.shape[-2:]
    side = max(height, width)
    left, top = (side - width) // 2, (side - height) // 2
    return pad(images, (left, side - width - left, top, side - height - top))


def _classify(trainer: L.Trainer, model: Any, writer: Any) -> None:
    """Draw a precision-recall curve for each class, and which classes are taken for which, over the images that were tested."""
    images = fixed_images(trainer, "test")
    if images is None:
        return
    x, y = images
    size = getattr(trainer.datamodule, "eval_batch_size", len(x))  # type: ignore[attr-defined]
    tested = int(min(len(x), sum(trainer.num_test_batches) * size * trainer.world_size))
    # figures are drawn outside of this block, in which matplotlib would meet tensors of the run's precision
    with undisturbed(trainer, model):
        labels, probabilities = y[:tested].cpu(), over_chunks(model.predict, x[:tested], size=size).float().cpu()
    classes, names = probabilities.shape[-1], labels_of(trainer.datamodule, y)  # type: ignore[attr-defined]
    for c in range(classes):
        writer.add_pr_curve(f"test/precision_recall/{names.name(c)}", labels == c, probabilities[:, c], trainer.global_step)
    # importing matplotlib takes a second, which only a classifier needs to wait for
    from vae_lightning.figures.metrics import confusion_matrix
    from vae_lightning.figures.style import style

    with style():
        figure = confusion_matrix(labels, probabilities.argmax(-1), classes, names)
        writer.add_figure("test/confusion", figure, trainer.global_step)


def _table(meanings: Mapping[str, str]) -> str:
    rows = [f"| {name} | {meaning} |" for name, meaning in meanings.items()]
    return "\n".join(["| metric | what it is |", "|---|---|", *rows])
