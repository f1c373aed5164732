"""dvc.yaml says everything: what each stage reads, writes and is set by, and nothing else."""

import ast
import inspect
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import pytest
from dvc.repo import Repo
from dvc.utils.serialize import load_yaml

from minimind import config, declarations

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
STAGES = declarations.stages(TEXT)


def paths(stage: declarations.Stage, key: str) -> list[str]:
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in stage.get(key) or []]


def test_the_lists_are_what_minimind_deps_writes() -> None:
    assert declarations.complete(TEXT, ROOT) == TEXT, "run `minimind deps`"


@pytest.mark.parametrize("name", STAGES)
def test_the_command_is_one_simple_command(name: str) -> None:
    command = STAGES[name]["cmd"]
    assert shlex.split(command) == command.split(), "no quoting"
    assert not set(re.sub(r"\$\{[\w.]+\}", "", command)) & set("&|;<>$`()*?"), "no shell syntax"
    assert command.split()[:3] == ["python", "-m", f"stages.{name}"]


@pytest.mark.parametrize("name", STAGES)
def test_every_path_of_the_command_is_declared_and_every_declared_one_is_on_it(name: str) -> None:
    stage = STAGES[name]
    written, data = (
        declarations.outputs(stage),
        [dep for dep in paths(stage, "deps") if not dep.endswith((".py", ".c"))],
    )
    arguments = declarations.arguments(stage)
    assert sorted(arguments) == sorted(data + written)
    assert len(set(arguments)) == len(arguments)
    inspect.signature(import_module(f"stages.{name}").main).bind(*arguments)  # TypeError unless it takes so many


@pytest.mark.parametrize("name", STAGES)
def test_the_params_are_the_sections_that_the_stage_reads(name: str) -> None:
    params = getattr(import_module(f"stages.{name}"), "Params", None)
    declared = STAGES[name].get("params") or []
    assert sorted(declared) == sorted(field.name for field in fields(params)) if params else declared == []
    assert "runtime" not in declared, "moving to another machine must rerun nothing"


def test_the_preset_that_a_section_names_is_what_its_stage_depends_on() -> None:
    """DVC fills the name in; a change to a preset that nobody uses is none of anybody's business."""
    with Repo(str(ROOT)) as repo:
        deps = {stage.addressing: {dep.def_path for dep in stage.deps} for stage in repo.index.stages}
    for name, section in {"pretrain": "model", "distill": "student"}.items():
        presets = {dep for dep in deps.pop(name) if dep.startswith("presets")}
        assert presets == {f"presets/{config.read(ROOT / 'params.yaml')[section]['preset']}.yaml"}
    assert not any(dep.startswith("presets") for found in deps.values() for dep in found)


@pytest.mark.parametrize("name", STAGES)
def test_everything_written_is_cached(name: str) -> None:
    """The run cache can't restore one that isn't, and a teammate would train it again; `persist` keeps stale ones."""
    for kind in ("outs", "metrics", "plots"):
        for entry in STAGES[name].get(kind, []):
            for options in [] if isinstance(entry, str) else entry.values():
                assert not {"cache", "persist"} & set(options)


def test_dvc_reads_it_and_the_stages_hang_together() -> None:
    with Repo(str(ROOT)) as repo:
        edges = repo.index.graph
        graph = {stage.addressing: {other.addressing for other in edges.successors(stage)} for stage in edges.nodes}
    assert graph["sft"] == {"pretrain", "pack", "tokenizer"}
    assert graph["dpo"] == {"sft", "reference", "pack", "tokenizer"}
    assert graph["evaluate@dpo"] == {"dpo", "fetch", "clean"}
    assert {name for name in graph if name.startswith("evaluate@")} < graph["report"]
    read = set().union(*graph.values())
    assert set(graph) - read == {"report"}, "every stage but the last is read by another"


def test_dvc_and_the_stages_read_the_same_numbers(tmp_path: Path) -> None:
    """The parser of `config` is DVC's: what one takes for a number the other does too."""
    path = tmp_path / "params.yaml"
    path.write_text("x: {a: 1e-3, b: on, c: 0o17, d: 017, e: 1_000, f: .5, g: ~, h: 12:30, i: 2026-01-01, j: yes}\n")
    assert config.read(path) == load_yaml(str(path))


def test_a_section_is_declared_only_where_it_belongs() -> None:
    """The shortest way to lose a day is a section that too many stages declare."""
    readers: dict[str, set[str]] = {}
    for name, stage in STAGES.items():
        for section in stage.get("params") or []:
            readers.setdefault(section, set()).add(name)
    shared = {
        "base": {"tokenizer", "pretrain"}, "data": {"fetch"}, "pack": {"pack", "evaluate"}, "model": {"pretrain"},
        "student": {"distill"},
    }  # fmt: skip
    own = {"clean", "tokenizer", "pretrain", "sft", "dpo", "teacher", "distill", "evaluate"}
    expected = {**shared, **{name: {name} for name in own}}
    # The report, which takes a second, shows all of them.
    assert {section: names for section, names in readers.items() if section != "seed"} == {
        section: names | {"report"} for section, names in expected.items()
    }


@pytest.mark.parametrize(("change", "status"), [("", 0), ("with another number", 1), ("that fails", 255)])
def test_the_check_of_repeatability_in_the_readme_can_fail(tmp_path: Path, change: str, status: int) -> None:
    """DVC adds dvc.lock to git's index, so that a plain `git diff` never shows a difference."""
    (line,) = re.findall(r"^    (dvc repro -f .*?) +#", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)
    program = "import sys; open('out', 'w').write(open('number').read()); sys.exit(open('number').read() == 'fail')"
    (tmp_path / "stage.py").write_text(program)
    (tmp_path / "dvc.yaml").write_text(f"stages:\n  s:\n    cmd: {sys.executable} stage.py\n    outs: [out]\n")
    (tmp_path / "number").write_text("1")
    (tmp_path / ".dvc").mkdir()
    shutil.copy(ROOT / ".dvc/config", tmp_path / ".dvc/config")
    (tmp_path / ".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

    def run(command: str) -> int:
        environment = {**os.environ, "PATH": path, "DVC_NO_ANALYTICS": "1"}
        return subprocess.run(command, shell=True, cwd=tmp_path, env=environment, capture_output=True).returncode

    git(tmp_path, "init", "--quiet")
    assert run("dvc repro") == 0
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    if change:  # what no dependency tells of, like another machine
        (tmp_path / "number").write_text("2" if status == 1 else "fail")
    assert run(line) == status


def git(root: Path, *arguments: str) -> str:
    signed = ["-c", "user.name=tester", "-c", "user.email=tester@example.com"]
    return subprocess.run(["git", *signed, *arguments], cwd=root, capture_output=True, text=True, check=True).stdout


OWN = {  # file → what of it is added: itself, or a folder
    "data/own/a.jsonl": "data/own/a.jsonl",
    "data/own/documents/a.jsonl": "data/own/documents/a.jsonl",
    "data/own/two/folders down/a.csv.gz": "data/own/two/folders down/a.csv.gz",
    "data/own/文件/诗": "data/own/文件/诗",
    "data/own/whole/a.jsonl": "data/own/whole",
    "data/own/whole/below/a.jsonl": "data/own/whole",
    "data/own/nested/whole/a.jsonl": "data/own/nested/whole",
    "data/base/model/weights": "data/base/model",
}
NOT_ADDED = [
    "data/own/b.jsonl", "data/own/documents/b.jsonl", "data/own/other/c", "data/base/other/weights",
    "data/raw/sft/0.jsonl", "data/new.txt", "models/sft/weights", "metrics/sft.json",
]  # fmt: skip


def test_what_is_added_below_own_and_base_reaches_a_teammate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC passes over a .dvc file that it believes to be ignored, and it reads .gitignore otherwise than git does."""
    mine, theirs, remote = tmp_path / "mine", tmp_path / "theirs", tmp_path / "remote"
    for name in git(ROOT, "ls-files", "-z", "data", ".dvc", ".dvcignore", ".gitignore").split("\0")[:-1]:
        (mine / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, mine / name)
    git(mine, "init", "--quiet")
    git(mine, "add", ".")
    monkeypatch.chdir(mine)
    for name in (*OWN, *NOT_ADDED):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(name)
    with Repo() as repo:
        for target in sorted(set(OWN.values())):
            repo.add(target)  # and git knows of it, by core.autostage
        with repo.config.edit() as config:
            config["remote"] = {"store": {"url": str(remote)}}
            config["core"]["remote"] = "store"
    git(mine, "commit", "--quiet", "--all", "--message", "own data")
    assert git(mine, "status", "--porcelain", "--untracked-files=all") == "", "git wants to know of nothing else"
    assert not {*OWN, *NOT_ADDED} & set(git(mine, "ls-files", "-z").split("\0"))
    with Repo() as repo:
        assert {stage.addressing for stage in repo.index.stages} == {f"{target}.dvc" for target in OWN.values()}
        repo.push()
    git(tmp_path, "clone", "--quiet", "mine", "theirs")
    with Repo(str(theirs)) as repo:
        repo.pull()
    assert {name: (theirs / name).read_text() for name in OWN} == {name: name for name in OWN}
    assert not [name for name in NOT_ADDED if (theirs / name).exists()]


# What compares a folder with its manifest.
OPENERS = {"files.verify", "Rows.open", "checkpoint.load", "columns.source", "vocabulary.adopt"}


@pytest.mark.parametrize("name", [name for name in STAGES if name != "fetch"])
def test_every_folder_that_a_stage_reads_is_verified(name: str) -> None:
    tree = ast.parse((ROOT / f"stages/{name}.py").read_text(encoding="utf-8"))
    main = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "main")
    given = zip((argument.arg for argument in main.args.args), STAGES[name]["cmd"].split()[3:], strict=False)
    deps = [dep for dep in paths(STAGES[name], "deps") if dep.startswith(("data/", "models/"))]
    read = {argument for argument, path in given if path in deps}
    calls = [node for node in ast.walk(main) if isinstance(node, ast.Call) and ast.unparse(node.func) in OPENERS]
    opened = {inner.id for call in calls for inner in ast.walk(call) if isinstance(inner, ast.Name)}
    assert read and read <= opened, f"{name} reads {read - opened} unverified"
