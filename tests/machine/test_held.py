"""The content of a checkpoint is as it was saved, in memory of its own, and no larger than it seems."""

import collections
from pathlib import Path
from typing import Any

import pytest
import torch

from vae_lightning import VAE
from vae_lightning.machine.held import in_memory


def roundtrip(content: Any, path: Path) -> Any:
    torch.save(content, path)
    mapped = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    held = in_memory(mapped, path.stat().st_size)
    path.write_bytes(b"\xff" * path.stat().st_size)  # the file may change afterwards
    return held


def test_content_is_as_it_was_and_no_longer_depends_on_the_file(tmp_path: Path) -> None:
    model = VAE(latent_dim=2, net={"name": "mlp", "hidden": [8]})
    shared = torch.arange(12.0)
    content = {
        "state_dict": model.state_dict(),
        "shared": [shared[:6], shared[3:9], shared.view(3, 4).T],
        "rest": ({"a": (1, torch.ones(2, dtype=torch.bool)), "b": None}, "text", 1.5, torch.Size([3])),
        "optimizer": collections.OrderedDict({0: {"exp_avg": torch.zeros(3, dtype=torch.bfloat16)}}),
        "sparse": torch.eye(3).to_sparse(),
        "empty": torch.empty(0, 4),
        "grad": torch.zeros(2, requires_grad=True),
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }
    held = roundtrip(content, tmp_path / "a.ckpt")
    for name, value in model.state_dict().items():
        assert torch.equal(held["state_dict"][name], value)
    assert held["state_dict"]._metadata == model.state_dict()._metadata, "by which modules know their versions"
    first, second, turned = held["shared"]
    assert turned.tolist() == shared.view(3, 4).T.tolist()
    first[4] = 100.0
    assert second[1] == 100.0
    assert turned[0, 1] == 100.0
    assert held["rest"][0]["a"][1].tolist() == [True, True]
    assert held["rest"][3] == torch.Size([3])
    assert held["optimizer"][0]["exp_avg"].dtype == torch.bfloat16
    assert held["sparse"].to_dense().tolist() == torch.eye(3).tolist()
    assert held["empty"].shape == (0, 4)
    assert held["grad"].requires_grad
    assert isinstance(held["parameter"], torch.nn.Parameter)


def test_tensor_that_claims_more_than_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="claims 1,000,000,000,000 elements, more than the file holds"):
        roundtrip({"weight": torch.zeros(1).expand(10**12)}, tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match="is on the device meta, where nothing is stored"):
        roundtrip({"weight": torch.empty(10**12, device="meta")}, tmp_path / "a.ckpt")


def doubled(times: int) -> list[Any]:
    node: list[Any] = [1]
    for _ in range(times):
        node = [node, node]
    return node


def test_containers_that_hold_each_other_many_times_are_refused(tmp_path: Path) -> None:
    assert roundtrip({"few": doubled(10)}, tmp_path / "a.ckpt")["few"] == doubled(10)
    itself: list[Any] = []
    itself.append(itself)
    for content in (doubled(60), {"a": tuple(doubled(60))}, itself):
        with pytest.raises(ValueError, match="it holds itself, or more values than a checkpoint has"):
            roundtrip({"many": content}, tmp_path / "a.ckpt")
