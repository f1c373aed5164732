"""Every profile fits the code, whatever a user has made of params.yaml."""

import re
import shutil
import subprocess
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from dvc.utils.hydra import apply_overrides

from minimind import config, declarations
from minimind.sources import collection

ROOT = Path(__file__).parents[1]
PROFILES = sorted(ROOT.glob("profiles/*.yaml"))
PARAMS = {
    name: params
    for name in declarations.stages((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    if (params := getattr(import_module(f"stages.{name}"), "Params", None))
}


def committed(path: str) -> str | None:
    """A file as of git's HEAD; None in a repository without commits, or outside of one."""
    result = subprocess.run(["git", "show", f"HEAD:{path}"], cwd=ROOT, capture_output=True, check=False)
    return result.stdout.decode() if result.returncode == 0 else None


def keys(value: Any, prefix: str = "") -> set[str]:
    """Dotted names of all keys, without those of sources, which differ by kind."""
    if not isinstance(value, dict):
        return {prefix}
    return set().union(*(keys(item, f"{prefix}.{name}") for name, item in value.items()))


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_every_stage_can_read_the_profile(path: Path) -> None:
    for params in PARAMS.values():
        config.load(params, path)
    config.runtime(path)
    for name, entries in config.read(path)["data"].items():
        for number, entry in enumerate(entries):
            collection.parse(entry, f"data.{name}[{number}]", path)


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_the_profile_has_every_key_that_there_is_and_no_other(path: Path) -> None:
    """A default in the code may stand in for a key, but then nobody finds the knob."""
    assert keys(config.read(path)) == keys(config.read(ROOT / "profiles/atlas.yaml"))
    sections = {name for params in PARAMS.values() for name in get_type_hints(params)} | {"runtime"}
    assert set(config.read(path)) == sections
    for params in PARAMS.values():
        for section, hint in get_type_hints(params).items():
            if is_dataclass(hint):
                missing = {field.name for field in fields(hint)} - set(config.read(path)[section])
                # How large the vocabulary is, the tokenizer decides.
                assert missing == ({"vocab_size"} if section in ("model", "student") else set()), section


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_dvc_changes_one_value_and_no_comment(path: Path, tmp_path: Path) -> None:
    """`dvc exp run --set-param` writes params.yaml anew, in its own layout; comments inside lists would be lost."""
    copy = tmp_path / "params.yaml"
    shutil.copy(path, copy)
    apply_overrides(str(copy), ["seed=9"])
    old, new = (file.read_text(encoding="utf-8").split("\n") for file in (path, copy))
    assert [line for line in new if line] == [re.sub(r"^seed: \d+", "seed: 9", line) for line in old if line]


def test_the_committed_params_are_the_atlas() -> None:
    """In git's HEAD, so that it holds too while somebody tries other values."""
    assert committed("params.yaml") == committed("profiles/atlas.yaml")
