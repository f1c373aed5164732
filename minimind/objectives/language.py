"""Next-token prediction on packed rows: pretraining and supervised fine-tuning differ only in their targets."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from minimind.batches import Batch
from minimind.losses import IGNORE, cross_entropy_sum
from minimind.model import Decoder


class Language:
    """Cross-entropy, in nats, summed over the targets; one loss unit per target token."""

    def weight(self, batch: Batch) -> int:
        """Number of target tokens."""
        return int((batch["targets"] != IGNORE).sum())

    def __call__(self, model: Decoder, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Summed loss of the batch, with the routers' loss counted once per target token."""
        hidden, routing = model(batch["ids"], batch["documents"])
        targets = batch["targets"]
        loss = cross_entropy_sum(hidden, model.output_weight, targets)
        metrics: dict[str, Tensor] = {}
        if routing is not None:
            router_loss, metrics = routing.summed((targets != IGNORE).sum(1))
            loss = loss + router_loss
        return loss, metrics


@torch.no_grad()
def bits_per_byte(model: Decoder, batches: Iterable[Batch], target_bytes: int) -> float:
    """Cross-entropy of the targets in bits, divided by the UTF-8 bytes they stand for: independent of the tokenizer."""
    nats = 0.0
    for batch in batches:
        batch = {name: value.to(model.cos.device) for name, value in batch.items()}
        hidden, _ = model(batch["ids"], batch["documents"])
        nats += cross_entropy_sum(hidden, model.output_weight, batch["targets"]).item()
    return nats / math.log(2) / target_bytes
