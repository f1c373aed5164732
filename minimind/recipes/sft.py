"""Section `sft` of params.yaml."""

from dataclasses import dataclass
from typing import Annotated

from minimind.limits import Limits
from minimind.lora import TuneConfig


@dataclass(frozen=True)
class SftConfig(TuneConfig):
    """How conversations are learnt. Raises ValueError naming the field."""

    replay: Annotated[float, Limits(0, 1, below=True)] = 0.1  # of each batch is documents, lest facts be forgotten
