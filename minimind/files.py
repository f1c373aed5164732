"""Files that are whole or absent: atomic writes, digests, and the manifest that a folder is opened with.

Everything is written beside its destination under a name that ends in `.partial`, flushed to the disk and then
renamed. A run that dies leaves the destination untouched, and the next one removes what it left. Renaming also
keeps DVC's cache whole: an output may be a hard link into it, so opening it for writing would change the cache.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from minimind import storage
from minimind.errors import UserError

MANIFEST = "manifest.json"


class CorruptError(UserError):
    """A file that is not what was written; the message names it and says the mend."""


@contextmanager
def file(path: Path) -> Iterator[Path]:
    """A temporary path to write, renamed to `path` when the block ends and removed when it raises.

    Raises storage.StorageError where the disk is full or can't be written to; so does `folder`.
    """
    partial = _partial(path)
    with _whole(path.parent, partial):
        yield partial
        _sync(partial)
        os.replace(partial, path)
        _sync(path.parent)


@contextmanager
def folder(path: Path) -> Iterator[Path]:
    """A temporary folder to fill, renamed to `path` when the block ends and removed when it raises.

    What stood at `path` is replaced.
    """
    partial = _partial(path)
    with _whole(path, partial):
        partial.mkdir()
        yield partial
        for entry in sorted(partial.rglob("*")):
            _sync(entry)
        _sync(partial)
        # A folder can't be renamed onto a full one.
        _remove(path)
        os.rename(partial, path)
        _sync(path.parent)


@contextmanager
def _whole(place: Path, partial: Path) -> Iterator[None]:
    """Remove `partial` before and where the block raises; a refusal of the system becomes one line about `place`."""
    written = 0
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        _remove(partial)
        try:
            yield
        except BaseException:
            written = storage.size(partial)
            _remove(partial)
            raise
    except UserError:
        raise
    except Exception as error:
        if (told := storage.explain(error, place, written, at_least=True)) is None:
            raise
        raise storage.StorageError(told) from error


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 with Unix line ends, atomically."""
    with file(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON, atomically, keys in their given order.

    Raises ValueError on NaN and infinity, which JSON doesn't have.
    """
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The JSON value in the file `path`. Raises CorruptError."""
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise CorruptError(f"{path} is not JSON ({error}): {_mend(path)}") from None


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in the file `path`. Raises CorruptError."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise CorruptError(f"{path} is no JSON object: {_mend(path)}")
    return value


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file but for its blank lines, whole in memory. Raises CorruptError with the line."""
    records = []
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise CorruptError(f"{path}:{number} is not JSON ({error}): {_mend(path)}") from None
        if not isinstance(record, dict):
            raise CorruptError(f"{path}:{number} is no JSON object: {_mend(path)}")
        records.append(record)
    return records


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_manifest(
    folder: Path, extra: Mapping[str, object] = {}, details: Mapping[str, Mapping[str, object]] = {}
) -> None:
    """Write `folder/manifest.json`: sha256 and bytes of every file below `folder`, by its relative path.

    `extra` adds keys beside "files"; `details` adds keys to single files. The result depends on the contents only.
    """
    assert "files" not in extra
    entries = {
        name: {"sha256": sha256(folder / name), "bytes": (folder / name).stat().st_size, **details.get(name, {})}
        for name in _names(folder)
    }
    assert set(details) <= set(entries), "details of a file that is not there"
    write_json(folder / MANIFEST, {"files": entries, **extra})


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of `folder`, whose files are not looked at. Raises CorruptError."""
    path = folder / MANIFEST
    if not folder.is_dir():
        raise CorruptError(
            f"there is no folder {folder}: `dvc repro` makes what belongs to the pipeline, `dvc pull` fetches it where "
            "someone has pushed it"
        )
    if not path.is_file():
        raise CorruptError(f"{path} is missing, so {folder} can't be checked: {_mend(folder)}")
    manifest = read_json(path)
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise CorruptError(f"{path} is no manifest: {_mend(folder)}")
    for name, entry in manifest["files"].items():
        known = entry if isinstance(entry, dict) else {}
        if type(known.get("bytes")) is not int or not isinstance(known.get("sha256"), str):
            raise CorruptError(f"{path} does not say `bytes` and `sha256` of {name}: {_mend(folder)}")
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise CorruptError(f"{path} names {name}, which is not in its folder: {_mend(folder)}")
    return manifest


def verify_manifest(folder: Path, only: Collection[str] | None = None) -> dict[str, Any]:
    """The manifest of `folder`, after its files, or those named by `only`, were compared with it.

    Raises CorruptError naming the first file that is missing, of another size or of another content.
    """
    manifest = read_manifest(folder)
    names = manifest["files"] if only is None else only
    for name in names:
        path = folder / name
        if name not in manifest["files"]:
            raise CorruptError(f"{path} is not in {folder / MANIFEST}: {_mend(folder)}")
        entry = manifest["files"][name]
        if not path.is_file():
            raise CorruptError(f"{path} is missing: {_mend(folder)}")
        size = path.stat().st_size
        if size != entry["bytes"]:
            raise CorruptError(f"{path} has {size} bytes and should have {entry['bytes']}: {_mend(folder)}")
        if sha256(path) != entry["sha256"]:
            raise CorruptError(f"{path} has other contents than its manifest says: {_mend(folder)}")
    return manifest


def verify(*folders: Path) -> None:
    """`verify_manifest` of each folder, as a stage calls it on all that it is about to read."""
    for folder in folders:
        verify_manifest(folder)


def _names(folder: Path) -> list[str]:
    """Every file below `folder` but the manifest itself, as sorted POSIX paths."""
    paths = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in paths if name != MANIFEST)


def _mend(path: Path) -> str:
    # Outputs that share their blocks with the cache share damage too, which DVC sees only in files it may write to.
    return (
        f"restore it with `dvc checkout --force {path}`; if that changes nothing, DVC's cache has the same damage: "
        f"make it anew with `chmod -R u+w {path} && dvc repro`"
    )


def _partial(path: Path) -> Path:
    # A fixed name: what a killed run left is found and removed by the next.
    return path.with_name(f".{path.name}.partial")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
