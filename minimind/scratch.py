"""Interim results of stages that work in shards: a folder for each exact task, found again after an interruption.

The folder is <base>/<key>. The key is a digest of all that the results depend on, so those of another task are never
taken up. Whoever writes there makes every file whole or absent (`files.file`).
"""

import hashlib
import json
import shutil
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path

from minimind import declarations, files, process

KEPT = 1  # unfinished tasks of other keys whose results are kept
_claimed: set[Path] = set()  # folders that this process holds


def key(what: object, sources: Sequence[Path], read: Sequence[Path], code: Path, packages: Sequence[str]) -> str:
    """Digest of `what`, told by JSON or by its text, and of files, code and versions of packages.

    sources: large files, known by name, size and time; read: files, by content; code: a module of the project, with
    all modules that it imports.
    """
    contents = [*_digests(code), *map(files.sha256, read)]
    stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in sources]
    task = [what, stats, contents, [version(package) for package in packages]]
    return hashlib.sha256(json.dumps(task, default=str).encode()).hexdigest()[:32]


@cache
def _digests(code: Path) -> tuple[str, ...]:
    """Of a module and all that it imports, which this process has read by now."""
    root = Path(__file__).parents[1]
    return tuple(files.sha256(root / name) for name in declarations.closure(code, root))


def claim(base: Path, key: str) -> Path:
    """The folder for this key, held by this process; of the others that nobody holds the newest KEPT stay."""
    others = [path for path in base.iterdir() if path.name != key] if base.is_dir() else []
    unheld = [path for path in others if not process.locked(path / "lock")]
    for other in sorted(unheld, key=lambda path: path.stat().st_mtime, reverse=True)[KEPT:]:
        shutil.rmtree(other, ignore_errors=True)  # another process may be at it too
    process.lock(base / key / "lock")
    _claimed.add(base / key)
    return base / key


def forget(base: Path) -> None:
    """Remove the folders in `base` that this process has claimed; those of other processes stay."""
    for folder in [folder for folder in _claimed if folder.parent == base]:
        shutil.rmtree(folder)
        _claimed.remove(folder)
