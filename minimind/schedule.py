"""Learning-rate schedules: pure functions from the step to a factor of the peak rate."""

import math
from typing import Literal

from minimind import pointless

Schedule = Literal["wsd", "cosine", "linear", "constant"]


def factor(
    step: int, steps: int, schedule: Schedule, warmup_steps: int | float, decay_share: float, final_share: float
) -> float:
    """Share of the peak learning rate at `step` (from 0) of `steps`.

    All schedules climb linearly over `warmup_steps`, where a float is a share of the steps. Then `constant` stays;
    `cosine` and `linear` fall to `final_share` over the rest; `wsd` (warm-up, stable, decay: arXiv:2404.06395) stays
    and falls linearly over the last `decay_share` of all steps.
    """
    warmup_steps = warmup(steps, warmup_steps)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if schedule == "constant":
        return 1.0
    start = max(warmup_steps, round(steps * (1 - decay_share))) if schedule == "wsd" else warmup_steps
    progress = min(1.0, max(0, step + 1 - start) / max(1, steps - start))
    fall = (1 - math.cos(math.pi * progress)) / 2 if schedule == "cosine" else progress
    return 1 - (1 - final_share) * fall


def warmup(steps: int, given: int | float) -> int:
    """The steps of the warm-up: as many as are given, or a share of all if that is a float."""
    return round(given * steps) if isinstance(given, float) else given


def check(
    stage: str, steps: int, schedule: Schedule, warmup_steps: int | float, decay_share: float, final_share: float
) -> None:
    """Raise PointlessError if no step of a run has a rate worth the name; warn if few do, or if the rate never falls.

    `stage` is the section of params.yaml. Without steps nothing is trained, so there is nothing to say.
    """
    if steps == 0:
        return
    climb = warmup(steps, warmup_steps)
    pointless.check(
        f"{stage}: steps after a warm-up of {climb}", max(0, steps - climb), steps,
        f"Lower {stage}.warmup_steps, which may be a share of the steps, such as 0.05, or train longer",
    )  # fmt: skip
    last = factor(steps - 1, steps, schedule, warmup_steps, decay_share, final_share)
    if steps == 1:
        mend = f"{stage}.schedule {schedule} falls to the end within the only step: train longer"
        pointless.check(f"{stage}: steps with a rate above 0", int(last > 0), 1, mend)
    if schedule != "constant" and final_share < 1 and last >= 1:
        pointless.warn(
            f"{stage}: the rate never falls: {stage}.decay_share {decay_share} of {steps} steps is no step. Train "
            f"longer (more {stage}.epochs, a smaller batch_size), raise it, or say {stage}.schedule: constant"
        )
