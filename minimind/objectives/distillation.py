"""Learning from a larger model's stored predictions: cross-entropy mixed with the divergence from its top-k."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from minimind.batches import Batch
from minimind.losses import IGNORE, token_logprobs
from minimind.model import Decoder


def topk_kl(logits: Tensor, teacher_ids: Tensor, teacher_logprobs: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(teacher ‖ student), in nats, over k + 1 outcomes: each of the teacher's k best tokens, or any other token.

    logits (..., V); teacher_ids (..., k) int64; teacher_logprobs (..., k + 1): of those tokens, and last of all
    other tokens together. Returns (...), fp32.

    Both sides keep their full mass: what the student gives to other tokens is summed, not renormalised away. Merging
    outcomes only ever lowers a divergence, so this is a lower bound of the KL over the vocabulary, and equal to it
    if k = V. The temperature divides the log-probabilities of the k + 1 outcomes. Source: arXiv:1503.02531, section 2.
    """
    logits = logits.float()
    student = logits.gather(-1, teacher_ids)
    if teacher_ids.shape[-1] < logits.shape[-1]:
        others = logits.scatter(-1, teacher_ids, -torch.inf).logsumexp(-1, keepdim=True)
        student = torch.cat((student, others), -1)
    else:
        teacher_logprobs = teacher_logprobs[..., :-1]
    # On the teacher's side this also takes out the rounding of what was stored.
    teacher = (teacher_logprobs.float() / temperature).log_softmax(-1)
    student = (student / temperature).log_softmax(-1)
    return F.kl_div(student, teacher, reduction="none", log_target=True).sum(-1)


@dataclass(frozen=True)
class Distillation:
    """(1 - α) · cross-entropy + α · temperature² · KL from the teacher's top-k; one loss unit per target token.

    With α = 0 it is plain cross-entropy, and the batch needs no teacher. Source: arXiv:1503.02531, section 2, whose
    factor temperature² keeps the gradient's size.
    """

    alpha: float
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"distill.alpha {self.alpha} is a share: it must lie between 0 and 1")
        if self.temperature <= 0:
            raise ValueError(f"distill.temperature {self.temperature} must be above 0; 1 changes nothing")

    def weight(self, batch: Batch) -> int:
        """Number of target tokens."""
        return int((batch["targets"] != IGNORE).sum())

    def __call__(self, model: Decoder, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Summed loss, with the routers' loss counted once per target token.

        batch["teacher_ids"] (B, T, k) integers and batch["teacher_logprobs"] (B, T, k + 1), as of `topk_kl`; what
        they hold at positions without a target is ignored, if finite.
        """
        targets = batch["targets"]
        hidden, routing = model(batch["ids"], batch["documents"])
        logits = model.logits(hidden)
        cross_entropy = -token_logprobs(logits, targets).sum()
        loss = (1 - self.alpha) * cross_entropy
        metrics = {"cross_entropy": cross_entropy.detach()}
        if self.alpha > 0:
            divergence = divergence_sum(logits, batch, self.temperature)
            loss = loss + self.alpha * self.temperature**2 * divergence
            metrics["divergence"] = divergence.detach()
        if routing is not None:
            router_loss, router_metrics = routing.summed((targets != IGNORE).sum(1))
            loss = loss + router_loss
            metrics |= router_metrics
        return loss, metrics


def divergence_sum(logits: Tensor, batch: Batch, temperature: float = 1.0) -> Tensor:
    """`topk_kl` from the teacher that the batch carries, summed over the targets. logits (B, T, V); returns ()."""
    kl = topk_kl(logits, batch["teacher_ids"].long(), batch["teacher_logprobs"], temperature)
    return torch.where(batch["targets"] != IGNORE, kl, 0).sum()


@torch.no_grad()
def measure(model: Decoder, batches: Iterable[Batch], target_bytes: int) -> dict[str, float]:
    """How well the model predicts the targets, and how far it is from the teacher.

    Returns cross-entropy as bits_per_byte of the `target_bytes` UTF-8 bytes that the targets stand for, and
    divergence, the mean of `topk_kl` at temperature 1 per target, in nats.
    """
    nats, divergence, num_targets = 0.0, 0.0, 0
    for batch in batches:
        batch = {name: value.to(model.cos.device) for name, value in batch.items()}
        logits = model.logits(model(batch["ids"], batch["documents"])[0])
        nats -= token_logprobs(logits, batch["targets"]).sum().item()
        divergence += divergence_sum(logits, batch).item()
        num_targets += int((batch["targets"] != IGNORE).sum())
    return {"bits_per_byte": nats / math.log(2) / target_bytes, "divergence": divergence / num_targets}
