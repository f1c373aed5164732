"""What is shown of long work where stderr is no terminal, and where it is one."""

import gc
import io
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from minimind import progress
from minimind.errors import UserError
from minimind.progress import Progress, amount, rate, words

ROOT = Path(__file__).parents[1]
PATIENCE = 60.0  # seconds after which something counts as hung, on however busy a machine

Captured = pytest.CaptureFixture[str]


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def threads() -> int:
    return sum(thread.daemon for thread in threading.enumerate())


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_line_names_steps_loss_rate_and_what_is_left() -> None:
    bar = Progress("pretrain", 1400, "step", done=200, show=False)
    assert bar.line(30) == "pretrain: 200 of 1,400 steps (14%), 30 s so far"
    bar.update(100, "loss 2.314, 4,512 tokens/s")
    # 100 of its own steps took a minute, and 1,100 are left.
    assert bar.line(60) == "pretrain: 300 of 1,400 steps (21%), loss 2.314, 4,512 tokens/s, about 11 min left"
    bar.update(1100)
    assert bar.line(720) == "pretrain: 1,400 of 1,400 steps (100%), loss 2.314, 4,512 tokens/s, after 12 min"


def test_lines_without_a_note_or_a_total() -> None:
    bar = Progress("clean", 40_000_000, "B", show=False)
    bar.update(10_000_000)
    assert bar.line(5) == "clean: 10.0 of 40.0 MB (25%), 2.0 MB/s, about 15 s left"
    bar.reach(0)  # a download that begins anew
    assert bar.line(6) == "clean: 0.0 of 40.0 MB (0%), 6 s so far"
    bar.update(20_000_000)
    assert bar.line(8, last=True) == "clean: 20.0 of 40.0 MB (50%), 2.5 MB/s, after 8 s"  # less than was thought
    bar = Progress("tokenizer", None, "document", show=False)
    assert list(bar.over("abc")) == ["a", "b", "c"]
    assert bar.line(1) == "tokenizer: 3 documents, 3.0 documents/s, 1 s so far"
    assert amount(0, 0, "step") == "0 of 0 steps"
    assert rate(12_000, "row") == "12,000 rows/s"
    assert [words(seconds) for seconds in (30, 600, 36_000)] == ["30 s", "10 min", "10.0 h"]


def test_lines_come_while_a_unit_lasts_and_one_at_the_end(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(progress.VARIABLE, "0.01")
    seen: list[str] = []

    def more(text: str) -> bool:
        seen.extend(capsys.readouterr().err.splitlines())
        return sum(text in line for line in seen) >= 2

    with Progress("evaluate", 2, "answer") as bar:
        wait_for(lambda: more("0 of 2 answers"))  # none is ready yet
        bar.update()
        wait_for(lambda: more("1 of 2 answers (50%)"))
        bar.update()
    bar.close()
    seen.extend(capsys.readouterr().err.splitlines())
    assert seen[-1].startswith("evaluate: 2 of 2 answers (100%)") and ", after " in seen[-1]
    numbers = [int(re.match(r"evaluate: (\d) of 2 answers", line)[1]) for line in seen]  # type: ignore[index]
    assert numbers == sorted(numbers)


def test_by_default_short_work_says_one_line_and_hidden_work_none(capsys: Captured) -> None:
    with Progress("clean", 1, "step") as bar:
        bar.update()
    assert len(capsys.readouterr().err.splitlines()) == 1
    with Progress("clean", 1, "step", show=False) as bar:
        bar.update()
    assert capsys.readouterr().err == ""


def test_on_a_terminal_it_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress("pretrain", 10, "step", done=4) as bar:
        bar.update(2, "loss 2.3")
        bar.reach(10)
        progress.say("something happened")
    drawn = terminal.getvalue()
    assert "pretrain:" in drawn and "10/10" in drawn and "loss 2.3" in drawn and "something happened\n" in drawn
    assert "of 10 steps" not in drawn


def test_work_that_an_error_ended_is_forgotten(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(progress.VARIABLE, "0.01")
    before = threads()
    abandoned = Progress("sft", 3, "step")
    assert threads() == before + 1
    del abandoned
    gc.collect()
    wait_for(lambda: threads() == before)


def test_a_broken_stderr_stops_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = io.StringIO()
    broken.close()
    monkeypatch.setattr(sys, "stderr", type("Gone", (), {"isatty": lambda self: False, "write": broken.write})())
    with Progress("sft", 3, "step") as bar:
        bar.update(3)


@pytest.mark.parametrize("value", ["", "soon", "0", "-1", "nan"])
def test_an_impossible_interval_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(progress.VARIABLE, value)
    with pytest.raises(UserError, match="MINIMIND_PROGRESS_SECONDS is '.*above 0"):
        Progress("sft", 3, "step")


def test_nothing_else_draws_bars() -> None:
    command = ["git", "grep", "--untracked", "-l", "tqdm", "--", "minimind", "stages"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert listing.split() == ["minimind/progress.py"]
