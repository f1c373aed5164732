"""Learning-rate schedules: pure functions from the step to a factor of the peak rate."""

import math
from typing import Literal

Schedule = Literal["wsd", "cosine", "linear", "constant"]


def factor(
    step: int, steps: int, schedule: Schedule, warmup_steps: int, decay_share: float, final_share: float
) -> float:
    """Share of the peak learning rate at `step` (from 0) of `steps`.

    All schedules climb linearly over `warmup_steps`. Then `constant` stays; `cosine` and `linear` fall to
    `final_share` over the rest; `wsd` (warm-up, stable, decay: arXiv:2404.06395) stays and falls linearly over
    the last `decay_share` of all steps.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if schedule == "constant":
        return 1.0
    start = max(warmup_steps, round(steps * (1 - decay_share))) if schedule == "wsd" else warmup_steps
    progress = min(1.0, max(0, step + 1 - start) / max(1, steps - start))
    fall = (1 - math.cos(math.pi * progress)) / 2 if schedule == "cosine" else progress
    return 1 - (1 - final_share) * fall
