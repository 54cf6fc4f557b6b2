"""What the numbers of a run are of, as far as it decides which others they compare with."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

__all__ = ["Treatment"]


@dataclass(frozen=True)
class Treatment:
    """What the numbers of a run are of, as far as it decides which others they compare with.

    >>> Treatment("mnist", "dynamic", conditional=True).words
    'mnist, binarization dynamic, p(x | y)'
    """

    dataset: str
    """The name of the data set: `mnist`."""
    binarization: str
    """How the images became binary."""
    conditional: bool = False
    """Whether the model is given labels, so that its numbers are of p(x | y)."""
    binary: bool = True
    """Whether the model gives probabilities of binary pixels, and not densities or probabilities of grey levels."""
    pixels: int | None = None
    """How many pixels an image has; None where nobody has said so, as in records of earlier versions."""

    @classmethod
    def read(cls, content: Any) -> "Treatment | None":
        """The treatment in a `report.json` or `metrics.json`; None if there is none that this version knows."""
        try:
            treatment = cls(**content) if isinstance(content, Mapping) else None
            hash(treatment)
        except TypeError:  # of another version, or damaged
            return None
        return treatment

    @property
    def plain(self) -> dict[str, Any]:
        """The form that it has in `report.json`."""
        return asdict(self)

    @property
    def words(self) -> str:
        """The treatment in words."""
        density = "" if self.binary else ", grey levels and not binary pixels"
        return f"{self.dataset}, binarization {self.binarization}, {'p(x | y)' if self.conditional else 'p(x)'}{density}"

    @property
    def words_with_size(self) -> str:
        """The treatment in words, the size of an image among them."""
        return self.words if self.pixels is None else f"{self.words}, {self.pixels} pixels"

    def of(self, name: str) -> "Treatment":
        """The treatment of the estimate `name`: `nll_marginal` of a conditional model is of p(x)."""
        return self if name != "nll_marginal" else replace(self, conditional=False)
