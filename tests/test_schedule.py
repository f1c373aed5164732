"""Schedules against transformers where it has the same one, and their shapes."""

import pytest
import torch
from transformers import get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

from minimind.schedule import factor


@pytest.mark.parametrize(
    ("schedule", "theirs"), [("linear", get_linear_schedule_with_warmup), ("cosine", get_cosine_schedule_with_warmup)]
)
def test_linear_and_cosine_are_those_of_transformers(schedule: str, theirs) -> None:  # type: ignore[no-untyped-def]
    """transformers counts one step behind: its factor at step s + 1 is ours at s, in the warm-up and after it."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = theirs(optimizer, num_warmup_steps=10, num_training_steps=100)
    for step in range(99):
        optimizer.step()
        scheduler.step()
        ours = factor(step, 100, schedule, 10, 0.5, 0.0)  # type: ignore[arg-type]
        assert ours == pytest.approx(scheduler.get_last_lr()[0])


def test_wsd_climbs_stays_and_falls_to_its_end() -> None:
    values = [factor(step, 100, "wsd", 10, 0.4, 0.1) for step in range(100)]
    assert values[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert set(values[10:60]) == {1.0}
    assert all(later < earlier for earlier, later in zip(values[60:], values[61:], strict=False))
    assert values[-1] == pytest.approx(0.1)


def test_constant_stays_and_no_warmup_starts_at_the_peak() -> None:
    assert [factor(step, 5, "constant", 0, 0.0, 0.0) for step in range(5)] == [1.0] * 5
