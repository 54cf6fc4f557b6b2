"""The model card says what the run says, and its head is YAML that the hub can read."""

from typing import Any

import torch
import yaml
from torch import nn

from vae_lightning.export.card import Card, Signature
from vae_lightning.export.functions import Function
from vae_lightning.export.graphs import Parity

NLL: dict[str, Any] = {
    "value": 86.76,
    "standard_error": 0.23,
    "num_images": 10_000,
    "num_samples": 5000,
    "estimator": "importance | K",
}


def card(**changes: Any) -> Card:
    settings = {"title": "vae", "kind": "VAE", "parameters": 12_345, "dataset": "mnist", "binarization": "dynamic"}
    return Card(**{**settings, "latent_dim": 2, "num_classes": 0, **changes})


def head_of(text: str) -> dict[str, Any]:
    _, head, _ = text.split("---\n", 2)
    return dict(yaml.safe_load(head))


def test_estimates_stand_with_their_errors() -> None:
    text = card(estimates={"nll": NLL, "elbo": {**NLL, "value": -90.0}}).to_markdown()
    assert "| nll | 86.76 | 0.23 | 10,000 | importance \\| K |" in text
    metrics = head_of(text)["model-index"][0]["results"][0]["metrics"]
    assert {metric["name"]: metric["value"] for metric in metrics} == {"elbo": -90.0, "nll": 86.76}


def test_metrics_of_the_training_stand_in_for_a_report_and_say_so() -> None:
    text = card(metrics={"elbo": -100.38, "loss": 100.38}).to_markdown()
    assert "| elbo | -100.38 |  |  |" in text
    assert "They are the training's own" in text
    assert "| loss |" not in text


def test_card_of_nothing_measured_says_so() -> None:
    text = card().to_markdown()
    assert "None were measured" in text
    assert "model-index" not in head_of(text)


def test_names_cannot_break_out_of_the_head() -> None:
    name = 'a": x\n---\n<script>alert(1)</script>'
    text = card(title=name, dataset=name, licence="mit", estimates={"nll": NLL}).to_markdown()
    head = head_of(text)
    assert head["model-index"][0]["name"] == name
    assert head["datasets"] == [name]
    assert "<script>" not in text.split("---\n", 2)[2]


def test_usage_is_of_the_files_that_are_there() -> None:
    bare = card(safetensors=False).to_markdown()
    assert "from_pretrained" not in bare
    assert "onnxruntime" not in bare
    full = card(parities=[Parity("decoder.onnx", 1e-7, 8)], num_classes=10, estimates={"nll": NLL}).to_markdown()
    assert "VAE.from_pretrained" in full
    assert '"y": y' in full
    assert "of p(x | y)" in full


def test_class_of_another_package_is_imported_from_there_and_trusted() -> None:
    text = card(kind="MyVAE", module="mypkg.models").to_markdown()
    assert "from mypkg.models import MyVAE" in text
    assert 'trust=["mypkg"]' in text
    assert "from_pretrained" not in card(module=None).to_markdown()


def test_order_of_permuted_pixels_is_said_of_what_takes_and_gives_them() -> None:
    assert "permute" not in card().to_markdown()
    bare, full = (card(permuted=True, signatures=signatures).to_markdown() for signatures in ([], [Signature("e", "x", "y")]))
    assert "`from_pretrained` takes and gives them in that order" in bare
    assert "the graphs" not in bare
    assert "the graphs take and give images with their pixels in place" in full


def test_caption_is_no_address() -> None:
    text = card(pictures={"figures/x.png": "x](https://elsewhere/p.png)"}).to_markdown()
    assert "![x\\](https" in text


def test_signature_names_kinds_and_shapes() -> None:
    function = Function("encoder", nn.Identity(), {"x": torch.zeros(2, 1, 4, 4), "y": torch.zeros(2, dtype=torch.int64)}, ("loc",))
    signature = Signature.of(function, [torch.zeros(2, 5)])
    assert signature.inputs == "x float32 (batch, 1, 4, 4), y int64 (batch)"
    assert signature.outputs == "loc float32 (batch, 5)"
