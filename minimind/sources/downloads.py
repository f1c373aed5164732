"""What was downloaded, as it came: a folder for each source in `.downloads/`, git-ignored.

It stands outside the stage's outputs, which DVC deletes before each run, and in the repository that `dvc exp run
--temp` copied from, so that a download is made once and a broken one goes on. It may be deleted at any time.
"""

import base64
import binascii
import hashlib
import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from minimind import files, limits
from minimind.limits import Limits
from minimind.sources.source import FetchError

RECORD = "record.json"


@dataclass(frozen=True)
class Pins:
    """What params.yaml says of a file. Raises ValueError unless the digests are digests."""

    sha256: str | None = None
    size: Annotated[int, Limits(1, 10**15)] | None = None  # bytes
    integrity: str | None = None  # as registries write it: <algorithm>-<base64>

    def __post_init__(self) -> None:
        limits.check(self)
        if self.sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", self.sha256):
            raise ValueError(f"`sha256` is {self.sha256!r}, expected 64 hexadecimal digits")
        if self.integrity is not None:
            _integrity(self.integrity)

    @property
    def digest(self) -> bool:
        """Whether they tell a wrong file from the right one."""
        return self.sha256 is not None or self.integrity is not None

    def check(self, path: Path, uri: str, otherwise: str = "") -> str:
        """The SHA-256 of a file. Raises FetchError where it isn't what is pinned.

        `otherwise` says what to do if the file is not what is meant.
        """
        mend = "if this file is meant, write its value in params.yaml; "
        mend += otherwise or f"else delete {path.parent} and fetch again"
        size = path.stat().st_size
        if self.size is not None and size != self.size:
            raise FetchError(f"{uri}: {path} has {size} bytes, `size` says {self.size}: {mend}")
        found = files.sha256(path)
        if self.sha256 is not None and self.sha256.lower() != found:
            raise FetchError(f"{uri}: the SHA-256 of {path} is {found}, `sha256` says {self.sha256}: {mend}")
        if self.integrity is not None:
            algorithm, wanted = _integrity(self.integrity)
            with path.open("rb") as stream:
                digest = hashlib.file_digest(stream, algorithm).digest()
            if digest != wanted:
                shown = f"{algorithm}-{base64.b64encode(digest).decode()}"
                raise FetchError(f"{uri}: {path} has the integrity {shown}, `integrity` says {self.integrity}: {mend}")
        return found


def root() -> Path:
    """The folder of all downloads."""
    return Path(os.environ.get("DVC_ROOT", ".")) / ".downloads"  # outlives the copy that `dvc exp run --temp` works in


def folder(uri: str) -> Path:
    """Where the files of a source lie, whatever is pinned: who pins what was downloaded finds it there."""
    key = hashlib.sha256(uri.encode()).hexdigest()[:8]
    return root() / f"{re.sub(r'[^a-zA-Z0-9.]+', '-', uri).strip('-')[-60:]}-{key}"


def read_record(path: Path) -> dict[str, Any]:
    """What was noted of the downloaded file `path`: sha256, bytes, etag; empty where nothing was."""
    try:
        records = json.loads((path.parent / RECORD).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    record = records.get(path.name, {}) if isinstance(records, dict) else {}
    return record if isinstance(record, dict) else {}


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Note what there is to know of the downloaded file `path`, beside it."""
    target = path.parent / RECORD
    records = json.loads(target.read_text(encoding="utf-8")) if target.exists() else {}
    files.write_json(target, {**records, path.name: record})


def accept(path: Path, uri: str, pins: Pins, etag: str | None = None) -> str:
    """The SHA-256 of a file that has arrived, noted if it is new. Raises FetchError.

    A file that someone copied here is as good as a downloaded one, if it is what is pinned.
    """
    found = pins.check(path, uri)
    record = read_record(path)
    if record and record.get("sha256") != found:
        raise FetchError(f"{uri}: {path} has changed since it was downloaded: delete {path.parent} and fetch again")
    if not record:
        write_record(path, {"uri": uri, "sha256": found, "bytes": path.stat().st_size, "etag": etag})
    return found


def noted(path: Path) -> dict[str, object]:
    """Digest and size of an accepted file, as a manifest tells them: nothing in it depends on when or where."""
    record = read_record(path)
    return {"file": path.name, "sha256": record["sha256"], "bytes": record["bytes"]}


def check_space(needed: int, target: Path) -> None:
    """Raise FetchError unless so many bytes are free where `target` lies."""
    place = target.resolve()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if needed > free:
        raise FetchError(
            f"the sources need {needed / 1e9:.1f} GB in {target}, where {free / 1e9:.1f} GB are free: "
            "make room, or choose smaller files in params.yaml"
        )


def _integrity(text: str) -> tuple[str, bytes]:
    algorithm, _, encoded = text.partition("-")
    try:
        digest = base64.b64decode(encoded, validate=True)
        if algorithm not in ("sha256", "sha384", "sha512") or len(digest) != hashlib.new(algorithm).digest_size:
            raise ValueError
    except (ValueError, binascii.Error):
        raise ValueError(f"`integrity` is {text!r}, expected sha512- and the digest in base64") from None
    return algorithm, digest
