"""The memory estimate against what autograd really keeps, and the refusal of what can't fit."""

import pytest
import torch
from torch import Tensor

from minimind import memory
from minimind.config import Runtime
from minimind.errors import UserError
from minimind.model import Decoder, ModelConfig
from minimind.objectives.language import Language

CONFIG = ModelConfig(128, 4, 4, 2, 352, vocab_size=512)
TOKENS = 2048


def kept_bytes(model: Decoder) -> int:
    """What a forward pass keeps for the backward pass, each storage once, without the parameters."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    found: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids = torch.randint(0, 512, (TOKENS // 128, 128))
    batch = {"ids": ids, "targets": ids.roll(-1, 1), "documents": torch.ones_like(ids)}
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss, _ = Language()(model, batch)
    assert loss.isfinite()
    return sum(found.values())


@pytest.mark.parametrize("again", [False, True])
def test_the_estimate_of_activations_is_near_what_autograd_keeps(again: bool) -> None:
    model = Decoder(CONFIG, torch.float32).initialise(1)
    model.checkpoint_activations = again
    parameters = sum(parameter.numel() for parameter in model.parameters())
    estimate = memory.training_bytes(model, TOKENS, again) - 20 * parameters
    assert kept_bytes(model) / 2 < estimate < 4 * kept_bytes(model)


def test_recomputing_keeps_less() -> None:
    model = Decoder(CONFIG, torch.float32).initialise(1)
    assert memory.training_bytes(model, TOKENS, True) < memory.training_bytes(model, TOKENS, False)
    before = kept_bytes(model)
    model.checkpoint_activations = True
    assert kept_bytes(model) < before / 2


def test_what_cannot_fit_is_refused_with_the_mend() -> None:
    with torch.device("meta"):
        giant = Decoder(ModelConfig(16384, 120, 128, 128, 53248, vocab_size=128_000))
    with pytest.raises(UserError, match=r"needs about [\d.]+ GiB.*micro_batch_size.*checkpoint_activations"):
        memory.check(giant, 4096, Runtime())
    memory.check(Decoder(CONFIG), 4096, Runtime())
