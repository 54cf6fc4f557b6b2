"""torchvision comes in whether its compiled part fits torch or not; where it fits, nothing is touched."""

import subprocess
import sys
from pathlib import Path

import pytest

MATCHING = "import torch\nassert not hasattr(torch.ops.torchvision, 'nms')\n"
MISMATCHED = (
    "import torch\n"
    "if not hasattr(torch.ops.torchvision, 'nms'):\n"
    "    raise RuntimeError('operator torchvision::nms does not exist')\n"
    "assert hasattr(torch.ops.torchvision, 'qnms')\n"
)
BROKEN = "raise RuntimeError('libtorch is broken')\n"


def import_with(torchvision: str, folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "torchvision").mkdir()
    (folder / "torchvision" / "__init__.py").write_text(torchvision)
    code = f"import sys; sys.path.insert(0, {str(folder)!r}); import vae_lightning; assert 'torch' not in sys.modules; import torchvision"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("torchvision", [MATCHING, MISMATCHED])
def test_import_succeeds(tmp_path: Path, torchvision: str) -> None:
    result = import_with(torchvision, tmp_path)
    assert result.returncode == 0, result.stderr


def test_another_fault_is_not_hidden(tmp_path: Path) -> None:
    assert "libtorch is broken" in import_with(BROKEN, tmp_path).stderr
