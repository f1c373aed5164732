"""What a file of weights does not say: numbers that change what is computed, and no name or shape.

They are taken from `--set`, else from a config.json beside the file, else they are those of MiniMind's releases. What a
shape does decide may be said too, and must agree.
"""

import dataclasses
import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minimind import config, files
from minimind.intake import huggingface
from minimind.intake.origin import IntakeError
from minimind.model import ModelConfig

FREE = ("num_attention_heads", "rope_theta", "rms_norm_eps", "max_position_embeddings")
FREE_OF_EXPERTS = ("num_experts_per_tok", "norm_topk_prob")
SHAPED = (
    "hidden_size", "num_hidden_layers", "num_key_value_heads", "intermediate_size", "head_dim", "use_moe",
    "num_experts", "num_shared_experts", "moe_intermediate_size", "vocab_size",
)  # fmt: skip
# Names of MiniMind's earlier code.
ALIASES = {"n_routed_experts": "num_experts", "n_shared_experts": "num_shared_experts"}
# What MiniMind's configs may say with the only value that we compute.
FIXED = huggingface.FIXED | {"scoring_func": "softmax", "inference_rope_scaling": False}
ONLY_WITH_EXPERTS = ("num_experts", "num_shared_experts", "moe_intermediate_size", *FREE_OF_EXPERTS)


@dataclass(frozen=True)
class Said:
    """Values by key of ModelConfig, each with the place where it is said: `--set`, or a file."""

    values: Mapping[str, Any]
    places: Mapping[str, str]
    files: list[Path]  # that were read


def said(path: Path, options: Sequence[str]) -> Said:
    """What is said of the file of weights `path`: by `options`, each "key=value", and by a config beside it.

    That config is the file of the same name in .json, or config.json. Raises IntakeError.
    """
    values: dict[str, Any] = {}
    places: dict[str, str] = {}
    beside = [found for found in (path.with_suffix(".json"), path.with_name("config.json")) if found.is_file()][:1]
    for found in beside:
        values |= _of_config(found)
        places |= dict.fromkeys(values, str(found))
    known = sorted(_known())
    for option in options:
        key, equals, text = option.partition("=")
        if not equals or key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise IntakeError(f"--set {option}: expected KEY=VALUE, where KEY is one of {', '.join(known)}{hint}")
        try:
            values[key] = json.loads(text)
        except ValueError:
            raise IntakeError(f"--set {option}: {text!r} is no number, true or false") from None
        places[key] = f"--set {key}"
    return Said(values, places, beside)


def settle(
    shaped: dict[str, Any], released: Mapping[str, Any], given: Said, path: Path
) -> tuple[ModelConfig, list[str]]:
    """The description of a model, and the keys that nothing says, so that the release's values are assumed.

    shaped: what follows from names and shapes. released: what MiniMind's releases have for the others. Raises
    IntakeError where something said contradicts a shape, config.ConfigError for a wrong value.
    """
    values = {**shaped, **released}
    for key, value in given.values.items():
        if key in shaped and shaped[key] != value:
            raise IntakeError(
                f"{given.places[key]} says {key} {_shown(value)}, and the shapes in {path} say {_shown(shaped[key])}"
            )
        values[key] = value
    if isinstance(values.get("rope_theta"), int):
        values["rope_theta"] = float(values["rope_theta"])
    try:
        described = config.parse(ModelConfig, values, path)
    except config.ConfigError as error:
        raise IntakeError(f"{', '.join(dict.fromkeys(given.places.values())) or path}: {error}") from error
    return described, [key for key in released if key not in given.values]


def in_words(described: ModelConfig, keys: Sequence[str]) -> str:
    """A sentence on what was assumed."""
    shown = ", ".join(f"{key} {_shown(getattr(described, key))}" for key in keys)
    return (
        f"Assumed, since neither names nor shapes tell: {shown} (MiniMind's releases have these; say others with "
        "--set KEY=VALUE, or put the model's config.json beside the file)"
    )


def _known() -> set[str]:
    return set(FREE) | set(FREE_OF_EXPERTS)


def _of_config(path: Path) -> dict[str, Any]:
    """What a config.json of MiniMind's, or of transformers', says under our keys. Raises IntakeError."""
    described = files.read_json(path)
    if not isinstance(described, dict):
        raise IntakeError(f"{path} is no JSON object: it is no description of a model")
    rope = described.get("rope_parameters") or described.get("rope_scaling") or {}
    described = {ALIASES.get(key, key): value for part in (rope, described) for key, value in part.items()}
    fixed = {key: value for key, value in FIXED.items() if not (rope and key == "inference_rope_scaling")}
    for key, value in fixed.items():
        if described.get(key) not in (None, value):
            raise IntakeError(f"{path}: {key} is {described[key]!r}, and our model has {value!r} only")
    with_experts = described.get("use_moe", "num_experts" in described)
    left_out = ("intermediate_size",) if with_experts else ONLY_WITH_EXPERTS
    keys = [key for key in (*FREE, *FREE_OF_EXPERTS, *SHAPED) if key not in left_out]
    found = {key: described[key] for key in keys if described.get(key) is not None}
    scaling = huggingface.yarn(rope, path)
    return found if scaling is None else found | {"rope_scaling": dataclasses.asdict(scaling)}


def _shown(value: object) -> str:
    return json.dumps(value) if isinstance(value, bool | int | float | str) else str(value)
