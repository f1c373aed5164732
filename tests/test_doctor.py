"""The doctor on this machine, with a real probe of a small model."""

import shutil
from pathlib import Path

import pytest

from minimind import cli, config, doctor
from minimind.config import ConfigError
from minimind.errors import UserError

ROOT = Path(__file__).parents[1]


def test_it_says_what_there_is_which_way_is_taken_and_how_long_it_will_take(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    shutil.copyfile(ROOT / "profiles" / "smoke.yaml", path)
    lines = list(doctor.report(path, seconds=0.1))
    text = "\n".join(lines)
    assert lines[0].startswith("machine: ")
    assert "device cpu" in text
    assert ("C kernels between" in text) != ("no C kernels: " in text), "one way, and a reason where it is the slower"
    params = config.read(path)
    for stage, model in doctor.STAGES.items():
        if stage in params and params[stage]["steps"]:
            assert f"  {stage}: {params[stage]['steps']:,} steps" in text
            assert f"{model}: " in text


def test_a_broken_section_is_named(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    text = (ROOT / "profiles" / "smoke.yaml").read_text(encoding="utf-8")
    path.write_text(text.replace("  hidden_size:", "  hiden_size: 64", 1), encoding="utf-8")
    with pytest.raises(ConfigError, match="did you mean `hidden_size`"):
        list(doctor.report(path, seconds=0.1))


def test_hours_follow_the_formula() -> None:
    # 6 · 26M parameters · 1G tokens at 100 TFLOP/s
    assert doctor.hours(26_000_000, 1e9, 1e14) == pytest.approx(0.43, abs=0.01)
    with pytest.raises(ValueError, match="trains nothing"):
        doctor.hours(1, 1.0, 0.0)


def test_epochs_are_taken_for_many_steps() -> None:
    assert [doctor.num_steps(section) for section in ({"steps": 7}, {"steps": 0, "epochs": 0.5}, {"epochs": 0})] == [
        7, doctor.MANY_STEPS, 0,
    ]  # fmt: skip


def test_durations_are_said_in_fitting_units() -> None:
    assert [doctor.words(seconds) for seconds in (30, 600, 36_000)] == ["30 s", "10 min", "10.0 h"]
    section = {"steps": 10, "epochs": 0, "batch_size": 4}
    assert doctor.duration(section, 100, 40.0) == "10 steps, 4,000 positions, about 100 s"
    assert "2 epochs" in doctor.duration({"steps": 0, "epochs": 2}, 100, 40.0)


def test_the_family_is_a_table_of_estimates(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    assert cli.main(["doctor", "--family", "--price", "0.5", "--share", "0.2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {cells[0].strip("`"): cells[1:] for line in lines[2:-2] if (cells := line.strip("| ").split(" | "))}
    family = {path.stem for path in (ROOT / "profiles").glob("minimind*.yaml")}
    assert family >= {path.stem for path in (ROOT / "presets").glob("minimind*.yaml")}
    assert rows.keys() == family
    # 26M parameters on 1.6 GB and 1.2 GB at a fifth of a token a byte: 6 · 25,829,888 · 0.56G / 14.2 TFLOP/s.
    assert rows["minimind2-small"] == ["25,829,888", "25,829,888", "pretrain_hq, sft_mini_512", "0.56G", "1.7", "$0.85"]
    assert rows["minimind2-moe"][:2] == ["145,029,760", "91,945,600"]
    assert "Estimates, not measurements" in lines[-1] and "20% of the 71 TFLOP/s" in lines[-1] and "$0.50" in lines[-1]
    assert cli.main(["doctor", "--family", "--share", "0"]) == 1
    assert "share is 0" in capsys.readouterr().err


def test_the_family_s_table_in_the_readme_is_what_the_command_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert "\n".join(doctor.family(doctor.Device())) in (ROOT / "README.md").read_text(encoding="utf-8")


def test_without_profiles_there_is_no_family(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run from the root"):
        list(doctor.family(doctor.Device(), tmp_path))
