"""Direct preference optimisation on packed pairs, with a likelihood term that keeps the preferred answer probable."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from minimind.batches import Batch
from minimind.losses import IGNORE, document_sums, sequence_logprobs
from minimind.model import Decoder


def dpo_loss(policy: Tensor, reference: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """-log sigmoid of the margin between the rewards of a chosen and a rejected answer, for each pair.

    policy, reference (..., 2): log-probabilities of (chosen, rejected) under the trained model and the frozen one.
    Returns the loss (...) in nats and the implicit rewards (..., 2), β · (log π - log π_ref).
    Source: arXiv:2305.18290, eq. 7.
    """
    rewards = beta * (policy - reference)
    return -F.logsigmoid(rewards[..., 0] - rewards[..., 1]), rewards


@dataclass(frozen=True)
class Preference:
    """DPO (sigmoid), plus `nll` times the chosen answer's cross-entropy per token; one loss unit per pair.

    In a row, documents 2i-1 (chosen) and 2i (rejected) form pair i. `length_normalised` replaces the sums of
    log-probabilities by means over the answer's tokens, as MiniMind2 did. The likelihood term is that of
    arXiv:2404.19733, section 2: without it DPO may lower both answers' probabilities, the chosen one's less.
    """

    beta: float
    nll: float = 0.0
    length_normalised: bool = False

    def __post_init__(self) -> None:
        if self.beta <= 0 or self.nll < 0:
            raise ValueError(f"dpo.beta {self.beta} must be above 0, dpo.nll {self.nll} must be 0 or more")

    def weight(self, batch: Batch) -> int:
        """Number of pairs."""
        return int((batch["documents"].amax(1) // 2).sum())

    def __call__(self, model: Decoder, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Summed loss of the pairs, with the routers' loss counted once per pair.

        batch["reference"] (B, M) fp32 holds the reference's log-probability of each document.
        """
        targets, documents, reference = batch["targets"], batch["documents"], batch["reference"]
        rows, max_documents = reference.shape
        assert max_documents % 2 == 0, "rows of preferences hold pairs"
        hidden, routing = model(batch["ids"], documents)
        policy = sequence_logprobs(model.logits(hidden), targets, documents, max_documents)
        lengths = document_sums((targets != IGNORE).to(policy.dtype), documents, max_documents).clamp(min=1)
        nll = -(policy / lengths)[:, 0::2]
        if self.length_normalised:
            policy, reference = policy / lengths, reference / lengths
        pairs = (rows, max_documents // 2, 2)
        loss, rewards = dpo_loss(policy.view(pairs), reference.view(pairs), self.beta)
        margins = rewards[..., 0] - rewards[..., 1]
        values = {
            "loss": loss + self.nll * nll,
            "preference_loss": loss,
            "nll": nll,
            "accuracy": (margins > 0).to(loss.dtype),
            "margin": margins,
            "chosen_reward": rewards[..., 0],
            "rejected_reward": rewards[..., 1],
        }
        pairs_per_row = documents.amax(1, keepdim=True) // 2
        real = torch.arange(max_documents // 2, device=documents.device) < pairs_per_row
        sums = {name: torch.where(real, value, 0).sum() for name, value in values.items()}
        total = sums.pop("loss")
        if routing is not None:
            router_loss, router_metrics = routing.summed(pairs_per_row[:, 0])
            total = total + router_loss
            sums |= router_metrics
        return total, {name: value.detach() for name, value in sums.items()}


@torch.no_grad()
def measure(model: Decoder, objective: Preference, batches: Iterable[Batch]) -> dict[str, float]:
    """Mean loss and metrics per pair."""
    sums: dict[str, float] = {}
    num_pairs = 0
    for batch in batches:
        loss, metrics = objective(model, {name: value.to(model.cos.device) for name, value in batch.items()})
        for name, value in {"loss": loss, **metrics}.items():
            sums[name] = sums.get(name, 0.0) + value.item()
        num_pairs += objective.weight(batch)
    return {name: value / num_pairs for name, value in sums.items()}
