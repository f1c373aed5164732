"""Training in one process, or in several that hold a replica each."""

import os
import shutil
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from minimind.batches import Batch
from minimind.engines.engine import Objective
from minimind.kernels import cpu
from minimind.model import Decoder

if TYPE_CHECKING:  # what they import isn't there where only a card is measured
    from minimind.config import Runtime
    from minimind.distributed import World

Forward = Callable[[Batch], tuple[Tensor, dict[str, Tensor]]]


class Replicas:
    """Every process holds all weights and optimizer states, and makes the same step. Without a world it is alone."""

    def __init__(
        self,
        model: Decoder,
        forward: Forward,
        optimizers: Sequence[torch.optim.Optimizer],
        world: "World | None" = None,
    ):
        self.model, self.forward, self.optimizers, self.world = model, forward, list(optimizers), world
        self.peaks = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a part of the loss."""
        loss.backward()

    def step(self, share: float, grad_clip: float, limit: float | None) -> Tensor:
        """As `Engine.step` says."""
        parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        if self.world is not None and self.world.size > 1:
            for parameter in parameters:  # an expert may have seen no token here, and some elsewhere
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
            self.world.add(*(parameter.grad for parameter in parameters if parameter.grad is not None))
        norm = torch.nn.utils.clip_grad_norm_(parameters, grad_clip)
        skip = limit is not None and float(norm) > limit
        for optimizer, peaks in zip(self.optimizers, self.peaks, strict=True):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * share
            if not skip:
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return norm

    def state(self) -> dict[str, Any]:
        """As `Engine.state` says."""
        return {
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """As `Engine.load` says."""
        self.model.load_state_dict(state["model"])
        for optimizer, values in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(values)

    def whole(self) -> Decoder:
        """As `Engine.whole` says."""
        return self.model

    def finish(self) -> None:
        """As `Engine.finish` says."""


def forward_function(model: Decoder, objective: Objective, runtime: "Runtime", tokens: int) -> Forward:
    """The objective on this model, for a run of so many tokens; compiled where `compiles` says so."""
    return bound(model, objective, compiles(model, runtime, tokens))


def bound(model: Decoder, objective: Objective, compiled: bool) -> Forward:
    """The objective on this model, compiled or as it is."""

    def forward(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        return objective(model, batch)

    return torch.compile(forward, fullgraph=True, dynamic=False) if compiled else forward


def compiles(model: Decoder, runtime: "Runtime", tokens: int) -> bool:
    """Whether a run of so many tokens is compiled.

    With `runtime.compile: auto` it is if it is long (the eager loop would need minutes) and there are a C++ compiler
    and Python's headers, but not where the CPU kernels do more than the compiler. The choice depends on the run and the
    machine, never on a clock, so that equal runs take equal paths. torch keeps what it has compiled between runs.
    """
    kernels = cpu.covers(torch.empty(0, dtype=model.dtype, device=model.cos.device))
    long = 6.0 * model.num_parameters() * tokens > (1e13 if model.cos.device.type == "cpu" else 1e16)
    compiler = shutil.which(os.environ.get("CXX", "g++")) is not None
    headers = Path(sysconfig.get_path("include"), "Python.h").is_file()
    worthwhile = long and compiler and headers and not kernels
    return runtime.compile == "on" or (runtime.compile == "auto" and worthwhile)
