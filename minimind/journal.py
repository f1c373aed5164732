"""A file that grows beside the states of a task. A state says how far it was written by then, and its digest."""

import hashlib
import os
from pathlib import Path
from typing import Any, Self

BLOCK = 1 << 20

Mark = dict[str, Any]
"""{"bytes", "sha256"} of a file's beginning."""


class Journal:
    """Appends to the file `path` behind what `mark` says of it, or begins it anew. A context manager."""

    def __init__(self, path: Path, mark: Mark | None = None):
        size = mark["bytes"] if mark else 0
        self._digest = _digest(path, size)
        self._stream = path.open("r+b" if mark else "wb")
        self._stream.truncate(size)
        self._stream.seek(size)

    def write(self, data: bytes) -> None:
        """Append."""
        self._stream.write(data)
        self._digest.update(data)

    def mark(self) -> Mark:
        """What is written by now, once it is on the disk."""
        self._stream.flush()
        os.fsync(self._stream.fileno())
        return {"bytes": self._stream.tell(), "sha256": self._digest.hexdigest()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()


def mark(path: Path) -> Mark:
    """Of a whole file."""
    size = path.stat().st_size
    return {"bytes": size, "sha256": _digest(path, size).hexdigest()}


def holds(path: Path, mark: Mark) -> bool:
    """Whether the file begins with what the mark was made of; more may follow."""
    if not path.is_file() or path.stat().st_size < mark["bytes"]:
        return False
    return bool(_digest(path, mark["bytes"]).hexdigest() == mark["sha256"])


def _digest(path: Path, size: int) -> Any:
    """Of the first `size` bytes of a file."""
    digest = hashlib.sha256()
    if size:
        with path.open("rb") as stream:
            while size and (block := stream.read(min(BLOCK, size))):
                digest.update(block)
                size -= len(block)
    return digest
