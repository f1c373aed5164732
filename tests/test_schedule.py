"""Schedules against transformers where it has the same one, and their shapes."""

import pytest
import torch
from transformers import get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

from minimind.pointless import PointlessError
from minimind.schedule import check, factor


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


def test_a_warm_up_may_be_a_share_of_the_steps() -> None:
    for schedule in ("wsd", "cosine", "linear", "constant"):
        whole, share = ([factor(s, 100, schedule, w, 0.4, 0.1) for s in range(100)] for w in (20, 0.2))
        assert whole == share
    assert [factor(step, 4, "constant", 0.1, 0.0, 0.0) for step in range(4)] == [1.0] * 4, (
        "a share of few steps is none"
    )


@pytest.mark.parametrize(
    ("steps", "schedule", "warmup", "decay", "says"),
    [
        (1, "wsd", 200, 0.4, "pretrain: steps after a warm-up of 200: 0 of 1"),
        (100, "wsd", 200, 0.4, "0 of 100 are left. Lower pretrain.warmup_steps"),
        (20, "cosine", 20, 0.4, "0 of 20"),
        (100, "linear", 0.999, 0.4, "0 of 100"),
        (1, "linear", 0, 0.4, "a rate above 0: 0 of 1"),
        (1, "cosine", 0.05, 0.4, "falls to the end within the only step"),
    ],
)
def test_a_run_that_never_trains_at_its_rate_is_refused(steps, schedule, warmup, decay, says) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(PointlessError) as caught:
        check("pretrain", steps, schedule, warmup, decay, 0.0)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("steps", "schedule", "warmup", "decay", "says"),
    [
        (100, "wsd", 60, 0.4, "40 of 100 are left"),
        (100, "wsd", 0.6, 0.4, "40 of 100 are left"),
        (1, "wsd", 0.05, 0.4, "sft: the rate never falls"),
        (100, "wsd", 20, 0.0, "sft.decay_share 0.0 of 100 steps is no step"),
        (100, "wsd", 20, 0.4, ""),
        (100, "wsd", 0.05, 0.4, ""),
        (100, "constant", 20, 0.0, ""),
        (2, "linear", 0.05, 0.0, ""),
        (0, "wsd", 200, 0.4, ""),
    ],
)
def test_a_run_with_little_of_it_is_warned_of(steps, schedule, warmup, decay, says, capsys) -> None:  # type: ignore[no-untyped-def]
    check("sft", steps, schedule, warmup, decay, 0.0)
    told = capsys.readouterr().err
    assert (says in told and told.startswith("WARNING: ")) if says else told == ""
