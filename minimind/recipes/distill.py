"""Section `distill` of params.yaml."""

from dataclasses import dataclass
from typing import Annotated

from minimind.limits import Limits, Share
from minimind.train import TrainConfig


@dataclass(frozen=True)
class DistillConfig(TrainConfig):
    """How the student learns. Raises ValueError naming the field."""

    alpha: Share = 0.7  # weight of the teacher's predictions; the rest is cross-entropy
    temperature: Annotated[float, Limits(0, 100, above=True)] = 1.0  # above 1 flattens what is compared
    control: bool = True  # train the same student without the predictions, to see what they bring
