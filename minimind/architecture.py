"""The models that params.yaml describes, each with its preset."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minimind import config
from minimind.model import ModelConfig


@dataclass(frozen=True)
class _Model:
    model: ModelConfig


@dataclass(frozen=True)
class _Student:
    student: ModelConfig


_CLASSES: dict[str, Any] = {"model": _Model, "student": _Student}  # a preset is filled into one section at a time
SECTIONS = tuple(_CLASSES)


def read(document: dict[str, Any], path: Path, sections: Iterable[str] = SECTIONS) -> dict[str, ModelConfig]:
    """Section → model, of a document that was read from the file `path`. Raises ConfigError."""
    return {
        section: getattr(
            config.take(_CLASSES[section], document, path, config.named_preset(document, section, path)), section
        )
        for section in sections
    }
