"""Results of a long benchmark as JSON lines, so that an interrupted call goes on where it was."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch

from minimind import declarations, files
from minimind.errors import UserError
from minimind.machine import processor

ROOT = Path(__file__).parents[1]

Record = dict[str, Any]


def code() -> str:
    """Digest of all code that pretraining runs: results of other code don't count."""
    digest = hashlib.sha256()
    for name in declarations.closure(ROOT / "stages" / "pretrain.py", ROOT):
        digest.update(name.encode() + (ROOT / name).read_bytes())
    return digest.hexdigest()[:16]


def machine() -> str:
    """The machine in words: its processor, the threads used, torch."""
    return f"{processor()}, {torch.get_num_threads()} threads, torch {torch.__version__.partition('+')[0]}"


class Ledger:
    """The records of one benchmark in the file `path`, whose first line says by which settings they were made.

    A line that a kill has torn is dropped. Raises UserError if the file was made by other settings.
    """

    def __init__(self, path: Path, settings: Record):
        self.path, self.records = path, []  # type: Path, list[Record]
        settings = json.loads(json.dumps(settings))
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        whole = [line for line in lines if line.endswith("\n")]
        if whole and (found := json.loads(whole[0])) != settings:
            names = [name for name in {**found, **settings} if found.get(name) != settings.get(name)]
            raise UserError(f"{path} was made with another {', '.join(names)}: name another file, or remove it")
        self.records = [json.loads(line) for line in whole[1:]]
        if whole != lines:
            files.write_text(path, "".join(whole))
        if not whole:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._append(settings)

    def find(self, key: Record) -> Record | None:
        """The record that holds all of `key`."""
        key = json.loads(json.dumps(key))
        return next((record for record in self.records if key.items() <= record.items()), None)

    def add(self, record: Record) -> Record:
        """Append a record; it is on the disk when this returns. Returns it as a later `find` would."""
        self._append(record)
        self.records.append(json.loads(json.dumps(record)))
        return self.records[-1]

    def _append(self, record: Record) -> None:
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(record) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
