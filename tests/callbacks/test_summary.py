"""The model's summary: parts, parameters, and nothing that is always zero."""

import pytest
import pytorch_lightning as L
from short_fits import small

from vae_lightning.callbacks import Summary


def test_summary_counts_parameters_and_no_flops(capsys: pytest.CaptureFixture[str]) -> None:
    model = small()
    model.decoder.requires_grad_(False)
    trainer = L.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False, callbacks=[Summary()]
    )
    trainer.callbacks[0].on_fit_start(trainer, model)
    shown = capsys.readouterr().out
    assert "MLPEncoder" in shown
    assert "FLOPs" not in shown
    total, fixed = (sum(p.numel() for p in module.parameters()) for module in (model, model.decoder))
    assert f"{total / 1000:.1f} K parameters, {fixed / 1000:.1f} K of them fixed" in shown
