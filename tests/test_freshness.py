"""Which stages are stale, compared with what DVC says of the same small project."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from minimind import freshness
from minimind.config import ConfigError

PIPELINE = """
stages:
  first:
    cmd: python code.py own params.yaml made/part
    deps: [code.py, own]
    params: [seed]
    outs: [made]
  second:
    cmd: python code.py made/part presets/${model.preset}.yaml second
    deps: [code.py, made/part, "presets/${model.preset}.yaml"]
    params: [model]
    outs: [second]
  judge:
    foreach: [made, second]
    do:
      cmd: python code.py ${item} params.yaml judged-${item}
      deps: [code.py, "${item}"]
      params: [judge]
      outs: ["judged-${item}"]
  aside:
    cmd: python other.py own params.yaml aside
    deps: [other.py, own]
    outs: [aside]
"""
CODE = """
import sys
from pathlib import Path
*_, source, out = map(Path, sys.argv)
out.parent.mkdir(exist_ok=True, parents=True)
out.write_text(sys.argv[1] + str(source.stat().st_size))
"""
PARAMS = "seed: 1\nmodel: {preset: one, width: 1e-3}\njudge: {split: dev}\nruntime: {threads: 1}\n"
ALL = {"first", "second", "judge@made", "judge@second", "aside"}


def dvc(*arguments: str) -> str:
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1"}
    environment = {name: value for name, value in environment.items() if name not in ("DVC_ROOT", "DVC_STAGE")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], env={**environment, "PATH": path}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that DVC has run."""
    root = tmp_path_factory.mktemp("project")
    (root / "own").mkdir()
    (root / "presets").mkdir()
    for name, text in {
        "dvc.yaml": PIPELINE, "params.yaml": PARAMS, "code.py": CODE, "other.py": CODE, "own/mine.jsonl": "{}\n",
        "presets/one.yaml": "layers: 1\n", "presets/two.yaml": "layers: 1\n",
    }.items():  # fmt: skip
        (root / name).write_text(text)
    before = Path.cwd()
    os.chdir(root)
    try:
        assert freshness.stale(root) == ALL, "there is no dvc.lock"
        dvc("init", "--no-scm", "--quiet")
        dvc("repro", "--quiet")
    finally:
        os.chdir(before)
    return root


@pytest.mark.parametrize(
    ("name", "old", "new", "expected"),
    [
        ("params.yaml", "threads: 1", "threads: 2", set()),
        ("params.yaml", "seed: 1", "seed: 2", ALL - {"aside"}),
        ("params.yaml", "1e-3", "0.001", set()),
        ("params.yaml", "split: dev", "split: test", {"judge@made", "judge@second"}),
        ("params.yaml", "preset: one", "preset: two", {"second", "judge@second"}),
        ("presets/one.yaml", "1", "2", {"second", "judge@second"}),
        ("presets/two.yaml", "1", "2", set()),
        ("other.py", "sys", "sys, os", {"aside"}),
        ("own/mine.jsonl", "{}", "{} {}", ALL),
        ("aside", None, None, {"aside"}),
        ("made/part", None, None, ALL - {"aside"}),
        ("dvc.yaml", "deps: [other.py, own]", "deps: [other.py, own, presets/one.yaml]", {"aside"}),
    ],
)
def test_a_change_makes_stale_what_depends_on_it(
    name: str, old: str | None, new: str | None, expected: set[str], project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    path = project / name
    text = path.read_text()
    if old is None or new is None:
        path.unlink()
        if name == "made/part":
            path.parent.rmdir()
    else:
        assert old in text
        path.write_text(text.replace(old, new, 1))
    try:
        assert freshness.stale(project) == expected
    finally:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert freshness.stale(project) == set()


def test_dvc_says_the_same(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the stages that changed themselves; it says so of those behind them only once these have run."""
    monkeypatch.chdir(project)
    assert "up to date" in dvc("status")
    (project / "params.yaml").write_text(PARAMS.replace("dev", "test").replace("preset: one", "preset: two"))
    try:
        said = {line.rstrip(":") for line in dvc("status").splitlines() if line and not line.startswith("\t")}
        assert said == {"second", "judge@made", "judge@second"} == freshness.stale(project)
    finally:
        (project / "params.yaml").write_text(PARAMS)


def test_without_a_pipeline_it_says_where_to_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="run from the root"):
        freshness.stale(tmp_path)
