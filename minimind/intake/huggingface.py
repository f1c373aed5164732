"""A folder of safetensors in Hugging Face's form, Llama, Qwen3 or Qwen3-MoE, in our terms.

What such a config.json can say and our model can't do is refused by the name of its key.
"""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minimind import checkpoint
from minimind.config import parse
from minimind.intake.origin import IntakeError
from minimind.model import ModelConfig, RopeScaling

# What each class takes for a key that config.json leaves out.
DEFAULTS: dict[str, dict[str, Any]] = {
    "llama": {"rope_theta": 1e4, "rms_norm_eps": 1e-6, "max_position_embeddings": 2048},
    "qwen3": {"head_dim": 128, "rope_theta": 1e4, "rms_norm_eps": 1e-6, "max_position_embeddings": 32768},
    "qwen3_moe": {"rope_theta": 1e4, "rms_norm_eps": 1e-6, "max_position_embeddings": 32768},
}
# Keys with the only value that our model computes; absent ones have it.
FIXED: dict[str, Any] = {
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "use_sliding_window": False,
    "partial_rotary_factor": 1.0,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "quantization_config": None,
    "is_encoder_decoder": False,
    "use_bidirectional_attention": False,
}


REQUIRED = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")
SHAPE = (*REQUIRED, "head_dim", "max_position_embeddings", "rope_theta", "rms_norm_eps")
EXPERTS = ("num_experts", "num_experts_per_tok", "moe_intermediate_size")
POSITIVE = (*SHAPE, "num_key_value_heads", *EXPERTS)
SAMPLING: dict[str, tuple[type, ...]] = {
    "do_sample": (bool,), "temperature": (int, float), "top_k": (int,), "top_p": (int, float),
}  # fmt: skip


@dataclass(frozen=True)
class Foreign:
    """A model as it was found: what our ModelConfig says of it, and its weights under our names, fp32."""

    config: ModelConfig
    weights: dict[str, Tensor]
    used: list[Path]  # the files that were read
    generation: dict[str, Any]  # of its sampling defaults, those that we know
    assumed: list[str] = field(default_factory=list)  # keys of the config that nothing in the files tells
    told: dict[str, Any] = field(default_factory=dict)  # values of the config that were found or given


def read(folder: Path) -> Foreign:
    """The model in `folder`. Raises IntakeError."""
    path = folder / "config.json"
    if not path.is_file():
        raise IntakeError(f"{path} is missing: {folder} is no folder of a model in Hugging Face's form")
    config = translate(_read(path), path)
    names = _weight_files(folder)
    weights: dict[str, Tensor] = {}
    for name in names:
        weights |= checkpoint.read_weights(folder / name)
    # Old checkpoints of Llama store what follows from rope_theta.
    weights = {name: tensor.float() for name, tensor in weights.items() if not name.endswith("rotary_emb.inv_freq")}
    head, embedding = weights.get("lm_head.weight"), weights.get("model.embed_tokens.weight")
    if config.tie_word_embeddings and head is not None and embedding is not None:
        if not torch.equal(head, embedding):
            raise IntakeError(
                f"{path}: tie_word_embeddings is true, but lm_head and embed_tokens differ in the weights"
            )
        del weights["lm_head.weight"]
    generation = folder / "generation_config.json"
    sampling = _read(generation) if generation.is_file() else {}
    known = _sampling(sampling, generation)
    used = [path, *(folder / name for name in names), *([generation] if sampling else [])]
    return Foreign(config, weights, used, known)


def translate(described: dict[str, Any], path: Path) -> ModelConfig:
    """Our description of the model that the config.json at `path` describes. Raises UserError naming the key."""
    kind = described.get("model_type")
    if not isinstance(kind, str) or kind not in DEFAULTS:
        raise IntakeError(f"{path}: model_type is {kind!r}; what can be imported is {', '.join(DEFAULTS)}")
    # transformers 4 writes rope_theta and rope_scaling, 5 writes rope_parameters.
    for key in ("rope_parameters", "rope_scaling"):
        if not isinstance(described.get(key) or {}, dict):
            raise IntakeError(f"{path}: {key} is {described[key]!r}, expected an object")
    rope = described.get("rope_parameters") or described.get("rope_scaling") or {}
    theta, other = (part.get("rope_theta") for part in (rope, described))
    if None not in (theta, other) and theta != other:
        raise IntakeError(f"{path}: rope_theta is {other} in one place and {theta} in another: correct one of them")
    values = {key: value for part in (rope, described) for key, value in part.items() if value is not None}
    for key, value in FIXED.items():
        if values.get(key, value) != value:
            raise IntakeError(f"{path}: {key} is {values[key]!r}, and our model has {value!r} only")
    layers = values.get("layer_types", [])
    for layer in layers if isinstance(layers, list) else [layers]:
        if layer != "full_attention":
            raise IntakeError(f"{path}: layer_types asks for {layer}, and our model attends to everything")
    values = DEFAULTS[kind] | values
    scaling = yarn(rope, path)
    numbers = {key: values[key] for key in (*SHAPE, "num_key_value_heads") if key in values}
    numbers.setdefault("num_key_value_heads", values.get("num_attention_heads"))
    if kind == "qwen3_moe":
        numbers |= {key: values[key] for key in EXPERTS if key in values}
        numbers |= {"use_moe": True, "norm_topk_prob": values.get("norm_topk_prob", False)}
        if "num_experts" not in numbers and "num_local_experts" in values:
            numbers["num_experts"] = values["num_local_experts"]
    for key in (*REQUIRED, *(EXPERTS if kind == "qwen3_moe" else ())):
        if key not in numbers:
            raise IntakeError(f"{path}: {key} is missing")
    numbers |= {"qk_norm": kind != "llama", "tie_word_embeddings": values.get("tie_word_embeddings", False)}
    for key in POSITIVE:
        if type(numbers.get(key, 1)) in (int, float) and not numbers.get(key, 1) > 0:
            raise IntakeError(f"{path}: {key} is {numbers[key]}, expected a number above 0")
    config = parse(ModelConfig, numbers, path)
    return replace(config, rope_scaling=scaling) if scaling is not None else config


def yarn(rope: dict[str, Any], path: Path) -> RopeScaling | None:
    """How positions are stretched. Raises IntakeError for another way than YaRN's, ConfigError for its numbers."""
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    if kind != "yarn":
        raise IntakeError(f"{path}: positions are scaled by {kind!r} (rope_scaling), and our model knows yarn only")
    numbers = {
        key: value
        for key, value in rope.items()
        if key not in ("rope_type", "type", "rope_theta", *FIXED) and value is not None
    }
    return parse(RopeScaling, numbers, path, "rope_scaling")


def _weight_files(folder: Path) -> list[str]:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        places = _read(index).get("weight_map")
        if not isinstance(places, dict) or not places or not all(isinstance(name, str) for name in places.values()):
            raise IntakeError(f"{index}: weight_map is no object of weights and the files that they are in")
        names = sorted(set(places.values()))
        for name in names:
            if Path(name).name != name or not (folder / name).is_file():
                raise IntakeError(f"{index} names {name}, and there is no such file in {folder}")
        return names
    if not (folder / "model.safetensors").is_file():
        raise IntakeError(
            f"{folder} has no model.safetensors: pickled weights are not read, save them as safetensors first"
        )
    return ["model.safetensors"]


def _sampling(described: dict[str, Any], path: Path) -> dict[str, Any]:
    """The sampling defaults that we know. Raises IntakeError for one of another type."""
    known = {key: described[key] for key in SAMPLING if described.get(key) is not None}
    for key, value in known.items():
        if type(value) not in SAMPLING[key]:
            raise IntakeError(f"{path}: {key} is {value!r}, expected {SAMPLING[key][0].__name__}")
    return known


def _read(path: Path) -> dict[str, Any]:
    """The JSON object in a file of the source. Raises IntakeError."""
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError, OSError) as error:
        raise IntakeError(f"{path} is not JSON ({error}): fetch it again from where the model comes from") from None
    if not isinstance(value, dict):
        raise IntakeError(f"{path} is no JSON object: fetch it again from where the model comes from")
    return value
