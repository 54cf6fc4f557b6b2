"""`CATALOG`: every figure that `evaluate.py` draws, in the order of its page, each declared in the module that defines it.

All modules of this folder are imported, so a new figure takes one file, and one for its test: see `registry.declare`.
"""

import importlib
import pkgutil

from vae_lightning import figures
from vae_lightning.figures.registry import CATALOG, FigureSpec, figure_named
from vae_lightning.figures.subject import Subject

__all__ = ["CATALOG", "FigureSpec", "Subject", "figure_named"]

for _module in sorted(module.name for module in pkgutil.iter_modules(figures.__path__)):
    importlib.import_module(f"{figures.__name__}.{_module}")
