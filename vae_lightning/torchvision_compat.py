"""Import torchvision, also where its compiled part does not fit the installed torch.

A torchvision built for CUDA beside a torch built for the CPU cannot load its compiled operators, and its import then
fails with "operator torchvision::nms does not exist". This project uses only its data sets, so the two operators that
the import asks for are declared, without an implementation, and the import is repeated. Where the builds match, the
first import succeeds and nothing here runs. Lightning imports torchvision too, so this goes before it.
"""

import sys

import torch

__all__: list[str] = []


def _import_torchvision() -> None:
    try:
        import torchvision
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
        for name in [n for n in sys.modules if n.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        for operator in ("nms", "qnms"):
            schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            torch.library.define(f"torchvision::{operator}", schema)
        import torchvision  # noqa: F401


_import_torchvision()
