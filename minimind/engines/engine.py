"""The faces of what the loop drives: an objective, and an engine that turns its gradients into steps."""

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor

from minimind.batches import Batch
from minimind.model import Decoder


class Objective(Protocol):
    """What is minimised. Sums, not means: the loop divides once, by the weight of the whole batch."""

    def weight(self, batch: Batch) -> int:
        """Number of loss units in the batch."""

    def __call__(self, model: Decoder, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Summed loss and summed metrics, 0-dim fp32."""


class Engine(Protocol):
    """What the loop drives. Every process calls it in step with the others."""

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The objective on some rows of this process."""

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a part of the loss."""

    def step(self, share: float, grad_clip: float, limit: float | None) -> Tensor:
        """Update the weights at `share` of the peak learning rates, and forget the gradient.

        The gradient is added up over processes and shortened to the norm `grad_clip`. Above the norm `limit` nothing
        is updated. Returns the norm before that, 0-dim fp32.
        """

    def state(self) -> dict[str, Any]:
        """Weights and optimizer states, in the same form whatever the engine; whole in the main process."""

    def load(self, state: Mapping[str, Any]) -> None:
        """Take up a state, of any engine."""

    def whole(self) -> Decoder:
        """A model with all weights, to measure with; every process gets one. It is not to be changed."""

    def finish(self) -> None:
        """Training is over: leave the model that was passed in with all trained weights, as a plain one."""
