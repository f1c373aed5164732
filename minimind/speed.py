"""How fast this machine trains, from a probe in a process of its own, which is stopped when it takes too long."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median_low

from minimind.deadline import Child, DeadError, OverdueError
from minimind.machine import Abilities, Begun, Event, Peak, Shape, Step
from minimind.progress import words

Examine = Callable[[Path, float, int, float], Iterable[Event]]


def examine(path: Path, seconds: float, num_steps: int, peak_seconds: float) -> Iterator[Event]:
    """`probe.examine`, in a process that may import torch."""
    from minimind import probe

    yield from probe.examine(path, seconds, num_steps, peak_seconds)


@dataclass(frozen=True)
class Rate:
    """How fast a model trains: n tokens take n · `token` seconds, and each step of the optimizer `update` besides.

    `at_least`: the probe was stopped, and it takes longer than that.
    """

    token: float
    update: float
    at_least: bool = False

    def seconds(self, tokens: float, steps: float = 0) -> float:
        """That so many tokens take, in so many steps of the optimizer."""
        return tokens * self.token + steps * self.update


@dataclass
class Findings:
    """What a probe has told so far."""

    abilities: Abilities | None = None
    shapes: dict[str, Shape] = field(default_factory=dict)  # by section of params.yaml, as all below
    steps: dict[str, list[Step]] = field(default_factory=dict)
    peak: Peak | None = None
    begun: Begun | None = None  # the step that is under way
    since: float = 0.0  # when it began, by time.monotonic
    lasted: float = 0.0  # seconds from then on, once the probe was stopped
    trouble: str = ""  # why the probe ended early, for the reader

    def watch(self, child: Child[Event], moment: float) -> Iterator[Event]:
        """What the child tells up to the moment; all is noted, also what ends it early. Raises UserError."""
        try:
            for event in child.until(moment):
                self._take(event)
                yield event
        except OverdueError:
            self.lasted = time.monotonic() - self.since
            self.trouble = f"slow: the probe was stopped {self._doing()}"
        except DeadError as error:
            self.trouble = f"the probe failed, and so may training: {str(error).splitlines()[-1]}"

    def _take(self, event: Event) -> None:
        if isinstance(event, Abilities):
            self.abilities = event
        elif isinstance(event, Shape):
            self.shapes[event.section] = event
        elif isinstance(event, Begun):
            self.begun, self.since = event, time.monotonic()
        elif isinstance(event, Step):
            self.steps.setdefault(event.section, []).append(event)
            self.begun = None
        else:
            self.peak = event

    def _doing(self) -> str:
        if self.abilities is None:
            return "while it imported torch and compiled the C kernels (a slow disk, or a busy machine)"
        if self.begun is None:
            return "between two steps" if self.steps else "before its first step"
        return f"{words(self.lasted)} into a step of {self.begun.tokens:,} tokens of the {self.begun.section}"

    @property
    def complete(self) -> bool:
        """Whether a step of every model has ended."""
        return bool(self.shapes) and self.shapes.keys() == self.steps.keys()

    def step(self, section: str) -> Step | None:
        """The usual one of the largest steps of a model; None where none has ended."""
        steps = self.steps.get(section, [])
        largest = [step for step in steps if step.tokens == max(step.tokens for step in steps)]
        if not largest:
            return None
        usual = median_low([step.passes + step.update for step in largest])
        return next(step for step in largest if step.passes + step.update == usual)

    def rates(self) -> dict[str, Rate]:
        """The rates of the models, but of those that nothing is known of.

        One that no step of has ended gets another's, by 6 · active parameters · tokens; one whose first step was under
        way when the probe was stopped takes longer than that step had by then.
        """
        found = {
            section: Rate(step.passes / step.tokens, step.update)
            for section in self.steps
            if (step := self.step(section)) is not None
        }
        if self.begun is not None and self.begun.section not in found:
            found[self.begun.section] = Rate(self.lasted / self.begun.tokens, 0.0, at_least=True)
        for section, shape in self.shapes.items():
            for other in [other for other in found if other != section]:
                scale = shape.active / self.shapes[other].active
                rate = found[other]
                found.setdefault(section, Rate(rate.token * scale, rate.update * scale, rate.at_least))
        return found
