"""Settings that make a stage pointless: nothing, or little, is left of what the stage is for.

One notion for all stages. A stage says how much there could be (answers with an end, merges, steps after the warm-up)
and how much its settings leave. Nothing is an error; less than half is a warning that the run goes on with.
"""

import sys

from minimind.errors import UserError

LITTLE = 0.5  # of what there could be; below, a warning


class PointlessError(UserError):
    """Settings that leave nothing of what a stage is for; the message names the key and the mend."""


def check(what: str, left: float, total: float, mend: str) -> None:
    """Raise PointlessError if nothing is left of `total`, warn if it is little. A total of 0 is left alone.

    `what` names the stage and what is counted, `mend` the key and what to make of it.
    """
    if total <= 0:
        return
    message = f"{what}: {left:,.0f} of {total:,.0f} are left. {mend}"
    if left <= 0:
        raise PointlessError(message)
    if left < LITTLE * total:
        warn(message)


def warn(message: str) -> None:
    """Say loudly, on stderr, that a stage goes on with settings that it gains little by."""
    print(f"WARNING: {message}", file=sys.stderr, flush=True)
