"""How MLflow loads a checkpoint that is a logged model, for `mlflow.pyfunc.load_model` and `mlflow models serve`.

The store holds no copy of the weights: the model answers from the checkpoint's folder, if that still is what it was.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from minimind.errors import UserError
from minimind.files import MANIFEST
from minimind.inference.language_model import Model, Prompt

COLUMNS = ("messages", "prompt", "inputs")  # of a table, or keys of an object, that hold prompts


class LoggedModel:
    """What `load_model` gives: `predict` takes prompts, as text or messages, and returns a list of texts."""

    def __init__(self, folder: Path):
        self.model = Model(folder)

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> list[str]:
        """The answers. `data` may be text, messages, a list of either, or a table or object with one of COLUMNS.

        params: fields of `Sampling`. Raises UserError where there are no prompts.
        """
        asked: Any = prompts(data)
        return list(self.model.predict(asked, **(params or {})))


def prompts(data: Any) -> list[Prompt]:
    """The prompts in what MLflow hands on: text, a list, an array, a table, an object. Raises UserError."""
    if hasattr(data, "columns"):  # a DataFrame
        columns = [str(name) for name in data.columns]
        name = next((name for name in COLUMNS if name in columns), columns[0] if len(columns) == 1 else None)
        if name is None:
            raise UserError(f"the table has the columns {', '.join(columns)}, expected one of {', '.join(COLUMNS)}")
        data = data.iloc[:, columns.index(name)]
    elif isinstance(data, dict):
        name = next((name for name in COLUMNS if name in data), None)
        if name is None:
            raise UserError(f"the input has {', '.join(map(str, data))}, expected one of {', '.join(COLUMNS)}")
        return prompts(data[name])
    if isinstance(data, str):
        return [data]
    found = data.tolist() if hasattr(data, "tolist") else list(data)
    if found and all(isinstance(one, dict) and "role" in one for one in found):
        return [found]
    for one in found:
        if not isinstance(one, str | list):
            raise UserError(f"a prompt is {type(one).__name__}, expected text or a list of messages")
    return found


def _load_pyfunc(path: str) -> LoggedModel:
    """Called by MLflow with the file that says where the checkpoint lies. Raises UserError if it isn't there."""
    place = json.loads(Path(path).read_text(encoding="utf-8"))
    folder = Path(place["folder"])
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise UserError(f"{folder} is gone: bring the checkpoint back with `dvc checkout {_short(folder)}`")
    if hashlib.sha256(manifest.read_bytes()).hexdigest() != place["digest"]:
        raise UserError(
            f"{folder} holds another checkpoint now than the one that was logged ({place['digest'][:12]}…): go to its "
            f"commit with git, then `dvc checkout {_short(folder)}`"
        )
    return LoggedModel(folder)


def _short(folder: Path) -> str:
    """The folder as one names it at the root of a repository."""
    return os.path.join(*folder.parts[-2:])
