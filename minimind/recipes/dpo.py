"""Section `dpo` of params.yaml."""

from dataclasses import dataclass
from typing import Annotated

from minimind.limits import Limits
from minimind.lora import TuneConfig


@dataclass(frozen=True)
class DpoConfig(TuneConfig):
    """How preferences are learnt. Raises ValueError naming the field."""

    beta: Annotated[float, Limits(0, 100, above=True)] = 0.1  # how strongly the reference holds the model back
    nll: Annotated[float, Limits(0, 100)] = 0.5  # weight of the chosen answers' cross-entropy
    length_normalised: bool = False  # means over an answer's tokens instead of sums
