"""What is rewritten in a traced graph computes the same, in code that a compiler is done with soon."""

import torch
from torch.fx.experimental.proxy_tensor import make_fx

from vae_lightning.machine.graphs import rewritten
from vae_lightning.noise import threefry


def test_random_words_take_code_in_proportion_to_their_rounds() -> None:
    """Each round uses the last one several times, so that without `realized` the code would grow with a power of the rounds."""
    places = torch.arange(64, dtype=torch.int32)

    def draw(places: torch.Tensor) -> list[torch.Tensor]:
        return list(threefry((places[0], places[1]), (places, places)))

    module = rewritten(make_fx(draw)(places))
    computed = [node for node in module.graph.nodes if node.op == "call_function" and node.meta["val"].numel() == 64]
    kept = [node for node in computed if node.target is torch.ops.vae_lightning.realized.default]
    assert len(kept) >= 2 * 19
    assert all(len(node.users) <= 1 for node in computed if node not in kept)
    assert all(torch.equal(*pair) for pair in zip(module(places), draw(places), strict=True))
