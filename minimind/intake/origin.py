"""Where a foreign model comes from: a path, or hf://organisation/name@revision on the Hugging Face hub."""

import re
from dataclasses import dataclass
from pathlib import Path

import httpx2
import huggingface_hub
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

from minimind.errors import UserError

PATTERNS = ("*.json", "*.safetensors", "*.jinja", "*.py")  # nothing that would have to be unpickled; no code is run


class IntakeError(UserError):
    """A foreign model that can't become a checkpoint here; the message names the file or key and says why."""


@dataclass(frozen=True)
class Origin:
    """A model's files on this disk, and what to call them."""

    path: Path  # a folder, or a single file
    source: str  # without anything that belongs to this machine
    revision: str | None  # the hub's commit


def locate(source: str) -> Origin:
    """Find `source`, downloading what stands on the hub. Raises IntakeError saying what is wrong with it."""
    if not source.startswith("hf://"):
        path = Path(source)
        if not path.exists():
            raise IntakeError(f"there is no {source}: name a folder, a *.pth file or hf://organisation/name@revision")
        return Origin(path, path.resolve().name, None)
    match = re.fullmatch(r"hf://([\w.-]+/[\w.-]+?)(?:@([\w./-]+))?", source)
    if match is None:
        raise IntakeError(f"{source} is not of the form hf://organisation/name@revision")
    repository, revision = match[1], match[2] or "main"
    try:
        # A folder of the hub's cache is named after the commit, whatever branch or tag was asked for.
        path = Path(huggingface_hub.snapshot_download(repository, revision=revision, allow_patterns=list(PATTERNS)))
    except (httpx2.HTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise IntakeError(f"{source} could not be fetched: {error}") from error
    return Origin(path, f"hf://{repository}", path.name)
