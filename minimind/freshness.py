"""Which stages `dvc repro` would run, by what dvc.lock says: the short answer, in half a second.

`dvc status` hashes all data and takes several seconds. Here data that a stage wrote is taken to be what it was, so
whoever edited it by hand is told of fewer stages than will run.
"""

import hashlib
from pathlib import Path
from typing import Any

from minimind import config
from minimind.declarations import Stage


def stale(root: Path) -> set[str]:
    """The stages of `root`/dvc.yaml that have changed since dvc.lock, and those that depend on them.

    Names are DVC's, such as `sft` and `evaluate@sft`. Raises ConfigError for a file that can't be read.
    """
    declared = expanded(config.read(root / "dvc.yaml")["stages"])
    lock = root / "dvc.lock"
    locked: dict[str, Any] = (config.read(lock) if lock.exists() else {}).get("stages", {})
    current: dict[str, Any] = {}
    found = set()
    for name, body in declared.items():
        entry = locked.get(name)
        files = {entry["path"] for entry in entry.get("deps", [])} if entry else set()
        if entry is None or not dependencies(body) <= files or _changed(entry, root, current):
            found.add(name)
    written = {name: [out["path"] for out in entry.get("outs", [])] for name, entry in locked.items()}
    while True:
        paths = [path for name in found for path in written.get(name, [])]
        more = {
            name
            for name in declared.keys() - found
            if any(_within(dep["path"], path) for dep in locked[name].get("deps", []) for path in paths)
        }
        if not more:
            return found
        found |= more


def expanded(bodies: dict[str, Stage]) -> dict[str, Stage]:
    """The stages of a dvc.yaml, one for each item of a template."""
    return {
        f"{name}@{item}" if item else name: body.get("do", body)
        for name, body in bodies.items()
        for item in body.get("foreach", [""])
    }


def dependencies(stage: Stage) -> set[str]:
    """What it is declared to depend on, but for paths that DVC fills in."""
    return {dep for dep in stage.get("deps", []) if "${" not in dep}


def _changed(entry: dict[str, Any], root: Path, current: dict[str, Any]) -> bool:
    """Whether outputs of a stage are missing, or its files or parameters are no longer those of its entry in dvc.lock.

    `current` keeps what was read of files of parameters.
    """
    if not all((root / out["path"]).exists() for out in entry.get("outs", [])):
        return True
    for dep in entry.get("deps", []):
        path = root / dep["path"]
        if path.is_file():
            if hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() != dep.get("md5"):
                return True
        elif not path.is_dir() or _extent(path) != (dep.get("size"), dep.get("nfiles")):
            return True
    for name, values in entry.get("params", {}).items():
        if name not in current:
            current[name] = config.read(root / name)
        for key, value in values.items():
            if key not in current[name] or current[name][key] != value:
                return True
    return False


def _extent(folder: Path) -> tuple[int, int]:
    """Bytes and number of the files."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in files), len(files)


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/") or folder.startswith(f"{path}/")
