"""The command `minimind`: what it changes, and what it refuses."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from minimind import cli, files

ROOT = Path(__file__).parents[1]
SIGNED = ["-c", "user.name=tester", "-c", "user.email=tester@example.com"]


PROFILES = {name: (ROOT / f"profiles/{name}.yaml").read_text(encoding="utf-8") for name in ("atlas", "smoke")}


def seeded(seed: int) -> str:
    """A profile, to be told from others by its seed."""
    return PROFILES["smoke"].replace("\nseed: 1\n", f"\nseed: {1000 + seed}\n")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with two profiles, one of which is in place and committed."""
    monkeypatch.chdir(tmp_path)
    Path("profiles").mkdir()
    for name in ("atlas", "smoke"):
        Path(f"profiles/{name}.yaml").write_text(PROFILES[name])
    shutil.copytree(ROOT / "presets", "presets")
    Path("params.yaml").write_text(Path("profiles/atlas.yaml").read_text())
    for command in (["init", "--quiet"], ["add", "."], [*SIGNED, "commit", "--quiet", "--message", "start"]):
        subprocess.run(["git", *command], check=True)
    return tmp_path


def params() -> str:
    return Path("params.yaml").read_text()


def test_a_profile_is_put_in_place(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["profile", "smoke"]) == 0
    assert params() == Path("profiles/smoke.yaml").read_text()
    assert cli.main(["profile", "smoke"]) == 0
    assert "smoke already" in capsys.readouterr().out
    assert cli.main(["profile", "atlas"]) == 0
    Path("params.yaml").unlink()
    assert cli.main(["profile", "atlas"]) == 0
    assert params() == Path("profiles/atlas.yaml").read_text()


def test_unsaved_edits_are_not_overwritten(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("params.yaml").write_text(seeded(77))
    assert cli.main(["profile", "smoke"]) == 1
    assert "edits that are saved nowhere else" in capsys.readouterr().err
    assert params() == seeded(77)
    subprocess.run(["git", *SIGNED, "commit", "--quiet", "--all", "--message", "edited"], check=True)
    assert cli.main(["profile", "smoke"]) == 0  # git has them
    Path("params.yaml").write_text(seeded(78))
    assert cli.main(["profile", "--force", "smoke"]) == 0
    assert params() == Path("profiles/smoke.yaml").read_text()


def test_a_profile_is_edited_and_put_in_place_again(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = Path("profiles/mine.yaml")
    for seed in (1, 2, 3):  # `minimind profile mine` wrote what it replaces
        mine.write_text(seeded(seed))
        assert cli.main(["profile", "mine"]) == 0
        assert params() == seeded(seed)
    mine.write_text(seeded(4))
    assert cli.main(["profile", "smoke"]) == 0  # to another one and back
    assert cli.main(["profile", "mine"]) == 0
    Path("params.yaml").write_text(seeded(77))
    mine.write_text(seeded(5))
    assert cli.main(["profile", "mine"]) == 1
    assert "edits that are saved nowhere else" in capsys.readouterr().err
    assert params() == seeded(77), "an edit of params.yaml itself is somebody's only copy"
    Path("params.yaml").write_text(seeded(4))
    assert cli.main(["profile", "mine"]) == 0, "an edit that was taken back is none"
    mine.unlink()
    assert cli.main(["profile", "smoke"]) == 1, "the profile is gone, and this its only copy"
    assert params() == seeded(5)


def test_a_copy_made_by_hand_counts_once_the_command_has_seen_it(root: Path) -> None:
    Path("params.yaml").write_text(seeded(1))
    for seed in (1, 2):
        Path("profiles/mine.yaml").write_text(seeded(seed))
        assert cli.main(["profile", "mine"]) == 0
    assert params() == seeded(2)


def test_an_unknown_profile_is_answered_with_the_known(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["profile", "smok"]) == 1
    assert "did you mean smoke? (there are: atlas, smoke)" in capsys.readouterr().err


def test_a_profile_that_cannot_run_is_not_put_in_place(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = params()
    wrong = PROFILES["smoke"].replace("validate_every: 10\n", "validate_every: 7\n", 1)
    Path("profiles/mine.yaml").write_text(wrong)
    assert cli.main(["profile", "mine"]) == 1
    message = capsys.readouterr().err
    assert message.startswith("minimind: profiles/mine.yaml: in `pretrain`: validate_every 7 is not a multiple")
    assert params() == before
    Path("params.yaml").write_text(wrong)  # by `dvc exp run --set-param`, or by hand
    assert cli.main(["check"]) == 1
    assert "params.yaml: in `pretrain`: validate_every 7" in capsys.readouterr().err
    Path("params.yaml").write_text(before)
    assert cli.main(["check"]) == 0


def test_files_that_are_not_there_yet_stop_the_run_only(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entry = "- uri: atlas:sft\n    count: 300\n    seed: 2\n"
    assert entry in PROFILES["smoke"]
    Path("profiles/mine.yaml").write_text(PROFILES["smoke"].replace(entry, "- uri: file:data/own/chats.jsonl\n"))
    assert cli.main(["profile", "mine"]) == 0
    assert "`data.sft[0]`: file:data/own/chats.jsonl: there is no such file" in capsys.readouterr().out
    assert cli.main(["check"]) == 1
    assert "`data.sft[0]`: file:data/own/chats.jsonl: there is no such file" in capsys.readouterr().err


def test_what_to_do_next_names_what_is_there(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["next"]) == 0
    assert capsys.readouterr().out == "What now:\n    make ui   to see all runs in MLflow\n"
    for name in ("pretrain", "sft"):
        with files.folder(Path("models", name)) as folder:
            files.write_manifest(folder)
    files.write_text(Path("metrics/report.html"), "")
    assert cli.main(["next"]) == 0
    assert capsys.readouterr().out == (
        "What now:\n"
        "    metrics/report.html        to open in a browser: scores, curves, answers side by side\n"
        "    minimind chat models/sft   to talk to the model\n"
        "    make ui                    to see all runs in MLflow\n"
    )


def test_deps_rewrites_dvc_yaml_once(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["deps"]) == 1
    assert "run from the root" in capsys.readouterr().err
    Path("stages").mkdir()
    Path("stages/x.py").write_text("import sys\n")
    Path("dvc.yaml").write_text("stages:\n  x:\n    cmd: python -m stages.x in out\n    deps:\n    outs: [out]\n")
    assert cli.main(["deps"]) == 0
    assert "    deps:\n      - stages/x.py\n      - in\n    outs: [out]\n" in Path("dvc.yaml").read_text()
    assert "git diff" in capsys.readouterr().out
    assert cli.main(["deps"]) == 0
    assert capsys.readouterr().out == "dvc.yaml is up to date\n"


def test_verify_tells_whole_from_damaged(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with files.folder(Path("models/sft")) as folder:
        (folder / "weights").write_bytes(b"12345")
        files.write_manifest(folder)
    assert cli.main(["verify", "models/sft"]) == 0
    assert capsys.readouterr().out == "models/sft: 1 files, 5 bytes, all as they were written\n"
    Path("models/sft/weights").write_bytes(b"12346")
    assert cli.main(["verify", "models/sft"]) == 1
    assert "models/sft/weights has other contents" in capsys.readouterr().err


def test_a_missing_folder_is_made_by_the_pipeline(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["verify", "models/dpo"], ["export", "models/dpo"]):
        assert cli.main(command) == 1
        assert "there is no folder models/dpo: `dvc repro` makes" in capsys.readouterr().err


def test_a_reader_that_goes_away_is_no_error(root: Path) -> None:
    """As in `minimind … | head -1`: silence, and the status that shells give to SIGPIPE."""
    program = (
        "import sys; from minimind import cli\n"
        "cli.deps = lambda: [print('x' * 1000) for _ in range(1000)]\n"
        "sys.exit(cli.main(['deps']))"
    )
    command = [sys.executable, "-c", program]
    environment = {"PYTHONPATH": str(Path(cli.__file__).parents[1])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == cli.BROKEN_PIPE
