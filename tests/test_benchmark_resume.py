"""A small disturbed run of the benchmark, and that it would notice one that ends otherwise."""

from pathlib import Path

import pytest

from benchmarks import resume


def test_kills_and_a_torn_state_leave_the_same_bits(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        resume.main(["--kills", "2", "--tears", "1", "--steps", "50", "--seed", "3"])
    output = capfd.readouterr().out
    assert ended.value.code == 0, output
    assert "2 kills" in output and output.count(": equal") == 3


def test_another_end_is_told_apart(tmp_path: Path) -> None:
    ends = []
    for number, text in enumerate(("a", "b")):
        workspace = tmp_path / str(number)
        workspace.mkdir()
        for name in (resume.DIGEST, resume.CURVE, resume.METRICS):
            (workspace / name).write_text(text if name == resume.DIGEST else "equal")
        ends.append(resume.outcome(workspace))
    assert [name for name in ends[0] if ends[0][name] != ends[1][name]] == [resume.DIGEST]


def test_lives_are_read_from_a_trace_that_a_kill_has_torn(tmp_path: Path) -> None:
    assert resume.lives(tmp_path) == []
    (tmp_path / resume.TRACE).write_text("begin\n1\n2\nbegin\nbegin\n2\n3\n4")
    assert resume.lives(tmp_path) == [[1, 2], [], [2, 3]]


def test_more_tears_than_kills_are_refused() -> None:
    with pytest.raises(SystemExit, match="--tears 3"):
        resume.main(["--kills", "2", "--tears", "3"])
