"""The guides as a reader follows them: their own files and commands, in a clone, with a tiny model."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from minimind import benchmark, files, specification

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TINY = {
    "hidden_size": "32", "num_hidden_layers": "1", "num_attention_heads": "2", "num_key_value_heads": "1",
    "intermediate_size": "32", "steps": "2", "epochs": "0.0", "vocab_size": "400", "max_new_tokens": "8",
    "max_unusable_share": "1.0", "validate_every": "1", "log_every": "1", "threads": "1", "workers": "1",
    "warmup_steps": "1",
}  # fmt: skip


def clone(root: Path) -> dict[str, str]:
    """The repository as it is now, in `root`, with this Python as its virtual environment; the environment to use."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    for name in filter(None, subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.split("\0")):
        if (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
    (root / "dvc.lock").unlink(missing_ok=True)
    commands = root / ".venv" / "bin"
    commands.mkdir(parents=True)
    for name, options in {"minimind": "-m minimind.cli", "dvc": "-m dvc", "python": ""}.items():
        (commands / name).write_text(f'#!/bin/sh\nexec {sys.executable} {options} "$@"\n')
        (commands / name).chmod(0o755)
    (root / ".venv" / "installed").touch()
    outer = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "GIT_", "MLFLOW_"))}
    path = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = outer | {"PATH": f"{commands}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": path}
    subprocess.run(["git", "init", "--quiet"], cwd=root, env=environment, check=True)
    return environment | {"DVC_NO_ANALYTICS": "1"}


def shrink(profile: Path) -> None:
    """Make the model and its training tiny."""
    text = profile.read_text(encoding="utf-8")
    for name, value in TINY.items():
        text = re.sub(rf"^(  {name}:).*$", rf"\1 {value}", text, flags=re.MULTILINE)
    profile.write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The clone after the walk, and what each command said."""
    root = tmp_path_factory.mktemp("walk")
    environment = clone(root)
    said = []
    for kind, name, content in BLOCK.findall((ROOT / "docs/guides/own-data.md").read_text(encoding="utf-8")):
        if kind == "sh":
            if "make repro" in content:
                shrink(root / "profiles/mine.yaml")
            done = subprocess.run(
                ["bash", "-ec", content], cwd=root, env=environment, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
            assert done.returncode == 0, f"{content}{done.stdout[-5000:]}"
            said.append(done.stdout)
        elif name == "data":
            profile = root / "profiles/mine.yaml"
            whole, count = re.subn(
                r"^data:\n(?:[ #-].*\n)*", lambda _, new=content: new, profile.read_text("utf-8"), flags=re.MULTILINE
            )
            assert count == 1
            profile.write_text(whole, encoding="utf-8")
        else:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(content, encoding="utf-8")
    return root, said


def test_every_line_of_the_walk_is_used(walked: tuple[Path, list[str]]) -> None:
    root, _ = walked
    manifests = {name: files.read_manifest(root / "data/raw" / name)["files"] for name in ("pretrain", "sft", "dpo")}
    assert {name: entry["lines"] for name, entry in manifests["pretrain"].items()} == {
        "0-notes.jsonl": 13, "1-pages.jsonl": 2,
    }  # fmt: skip
    assert manifests["pretrain"]["0-notes.jsonl"]["documents"] == "split at blank lines"
    assert manifests["pretrain"]["1-pages.jsonl"]["documents"] == "one a file"
    assert {name: entry["lines"] for name, entry in manifests["sft"].items()} == {
        "0-openai.jsonl": 8, "1-sharegpt.jsonl": 4, "2-alpaca.jsonl": 4,
    }  # fmt: skip
    packed = {name: files.read_json(root / "data/packed" / name / "statistics.json") for name in manifests}
    cleaned = files.read_json(root / "metrics/clean.json")["data_sets"]
    removed = {name: cleaned[name]["removed"] for name in manifests}
    assert {rule for rules in removed.values() for rule in rules} == {"contaminated"}  # what the exam asks is taken out
    lines = {
        name: one["lines"] + sum(rule["documents"] for rule in removed[name].values()) for name, one in packed.items()
    }
    assert lines == {"pretrain": 15, "sft": 16, "dpo": 8}
    assert [one["quarantined"] for one in packed.values()] == [0, 0, 0]
    assert "We have baked on River Road since 1931.\\nCome in" in (root / "data/raw/pretrain/1-pages.jsonl").read_text()


def test_the_walk_ends_in_a_report_and_an_answer(walked: tuple[Path, list[str]]) -> None:
    root, said = walked
    report = (root / "metrics/report.md").read_text(encoding="utf-8")
    assert "The scores mean nothing: no family has 30 items." in report and "on the exam split" in report
    assert "Profile mine;" in report and "| pretrain / 0-notes / zh |" in report and "| sft / " in report
    assert said[-1].strip()


def test_the_example_benchmark_has_every_kind() -> None:
    items = benchmark.read(ROOT / "docs/examples", "exam")
    assert {item["kind"] for item in items} == set(benchmark.KINDS)
    documented = (ROOT / "docs/benchmark.md").read_text(encoding="utf-8")
    assert all(f'"kind": "{kind}"' in documented for kind in specification.KINDS)
