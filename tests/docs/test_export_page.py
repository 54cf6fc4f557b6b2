"""The page on export: its script needs numpy and onnxruntime alone, and draws what the model draws."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from omegaconf import DictConfig

from vae_lightning import CVAE
from vae_lightning.commands.export import export
from vae_lightning.commands.train import train

NOT_FOR_IT = "import sys\nfor name in ('torch', 'vae_lightning', 'onnx', 'scipy', 'PIL'):\n    sys.modules[name] = None\n"


@pytest.mark.slow
def test_script_without_torch_draws_the_digits_of_the_model(compose: Callable[..., DictConfig], tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    train(compose("model=cvae_cnn3", "model.latent_dim=4"))
    folder = export({"run": str(tmp_path / "run"), "to": str(tmp_path / "export")}).folder
    page = (REPOSITORY / "docs" / "export.md").read_text()
    script, back = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    subprocess.run([sys.executable, "-c", NOT_FOR_IT + script], cwd=folder, check=True, timeout=60)
    head, _, content = (folder / "digits.pgm").read_bytes().partition(b"255\n")
    assert head == b"P5 280 280 "
    drawn = np.frombuffer(content, np.uint8).reshape(10, 28, 10, 28)
    z = torch.from_numpy(np.random.default_rng(0).standard_normal((10, 4)).astype(np.float32))
    model = CVAE.from_pretrained(folder)
    for digit in range(10):
        mean = model.decode(z, torch.full((10,), digit))[:, 0].numpy()
        assert np.abs(drawn[digit].transpose(1, 0, 2) - 255 * mean).max() <= 1.0
    assert drawn.std() > 1
    (tmp_path / "export").rename(tmp_path / "my_model")
    subprocess.run([sys.executable, "-c", back], cwd=tmp_path, check=True, timeout=120)
    assert (tmp_path / "another_folder" / "model.safetensors").is_file()
