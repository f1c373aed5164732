"""Optimizers: AdamW for everything, or Muon for the hidden matrices with AdamW for the rest."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import Tensor, nn

from minimind import capability

OptimizerName = Literal["muon", "adamw"]


def orthogonalise(matrices: Tensor) -> Tensor:
    """Nearest semi-orthogonal matrix, roughly: singular values move to about 1, singular vectors stay.

    matrices (N, rows, columns); returns the same shape, in the format that their device multiplies fastest. Five
    Newton-Schulz iterations with the quintic whose slope at 0 is steep, which bear the rounding of bf16. Source: Muon,
    https://kellerjordan.github.io/posts/muon/.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices.to(capability.native_dtype(matrices.device))
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalised, for matrices inside the network.

    Update: W ← W · (1 - lr · weight_decay) - lr · sqrt(max(1, rows / columns)) · orthogonalise(Nesterov momentum).
    The step has the same spectral size whatever the gradient's, so the rate carries over between widths.
    Matrices of one shape are orthogonalised as one batch.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, momentum: float, weight_decay: float):
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        assert closure is None
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for parameter in (p for p in group["params"] if p.grad is not None):
                by_shape[parameter.shape].append(parameter)
            for shape, parameters in by_shape.items():
                gradients = torch.stack([p.grad for p in parameters if p.grad is not None])
                for parameter in parameters:
                    if "momentum" not in self.state[parameter]:
                        self.state[parameter]["momentum"] = torch.zeros_like(parameter)
                momenta = [self.state[p]["momentum"] for p in parameters]
                average = torch.stack(momenta).lerp_(gradients, 1 - group["momentum"])
                for kept, new in zip(momenta, average, strict=True):
                    kept.copy_(new)
                updates = orthogonalise(gradients.lerp(average, group["momentum"])).to(gradients.dtype)
                scale = group["lr"] * max(1.0, shape[0] / shape[1]) ** 0.5
                for parameter, update in zip(parameters, updates, strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"]).sub_(update, alpha=scale)


def build(
    model: nn.Module,
    optimizer: OptimizerName,
    learning_rate: float,
    matrix_learning_rate: float,
    betas: tuple[float, float],
    momentum: float,
    weight_decay: float,
) -> list[torch.optim.Optimizer]:
    """The optimizers of a model; each parameter belongs to exactly one group.

    Hidden matrices go to Muon at `matrix_learning_rate` (or, with "adamw", to AdamW); embeddings, output layer,
    router gates and norms go to AdamW at `learning_rate`. Only hidden matrices decay. What is frozen stays out.
    """
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        hidden = parameter.ndim == 2 and not any(part in name for part in ("embed_tokens", "lm_head", "mlp.gate."))
        (matrices if hidden else rest).append(parameter)
    groups: list[dict[str, object]] = [{"params": rest, "weight_decay": 0.0}]
    if optimizer == "adamw":
        groups.append({"params": matrices, "weight_decay": weight_decay})
    adamw = torch.optim.AdamW(groups, lr=learning_rate, betas=betas, eps=1e-8, fused=True)
    if optimizer == "adamw":
        return [adamw]
    return [adamw, Muon(matrices, lr=matrix_learning_rate, momentum=momentum, weight_decay=weight_decay)]
