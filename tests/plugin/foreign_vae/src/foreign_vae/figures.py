"""A figure."""

from matplotlib.figure import Figure

from vae_lightning.figures.subject import Subject


def colours(subject: Subject) -> Figure:
    """The mean colour of the test images of each class. Good: no class is of one colour."""
    figure = Figure(figsize=(4, 3))
    axes = figure.subplots()
    for label in subject.y.unique().tolist():
        mean = subject.x[subject.y == label].mean((0, 2, 3)).cpu()
        axes.bar(subject.labels.name(label), 1, color=mean.tolist())
    return figure
