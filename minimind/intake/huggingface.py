"""A folder of safetensors in Hugging Face's form, Llama, Qwen3 or Qwen3-MoE, in our terms.

What such a config.json can say and our model can't do is refused by the name of its key.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from minimind import files
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
    described = files.read_json(path)
    config = translate(described, path)
    names = _weight_files(folder)
    weights: dict[str, Tensor] = {}
    for name in names:
        try:
            weights |= load_file(folder / name)
        except (SafetensorError, OSError) as error:
            raise IntakeError(f"{folder / name} can't be read: {error}") from error
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
    sampling = files.read_json(generation) if generation.is_file() else {}
    known = {key: sampling[key] for key in ("do_sample", "temperature", "top_k", "top_p") if key in sampling}
    used = [path, *(folder / name for name in names), *([generation] if sampling else [])]
    return Foreign(config, weights, used, known)


def translate(described: dict[str, Any], path: Path) -> ModelConfig:
    """Our description of the model that the config.json at `path` describes. Raises UserError naming the key."""
    kind = described.get("model_type")
    if kind not in DEFAULTS:
        raise IntakeError(f"{path}: model_type is {kind!r}; what can be imported is {', '.join(DEFAULTS)}")
    # transformers 4 writes rope_theta and rope_scaling, 5 writes rope_parameters.
    rope = described.get("rope_parameters") or described.get("rope_scaling") or {}
    theta, other = (part.get("rope_theta") for part in (rope, described))
    if None not in (theta, other) and theta != other:
        raise IntakeError(f"{path}: rope_theta is {other} in one place and {theta} in another: correct one of them")
    values = {key: value for part in (rope, described) for key, value in part.items() if value is not None}
    for key, value in FIXED.items():
        if values.get(key, value) != value:
            raise IntakeError(f"{path}: {key} is {values[key]!r}, and our model has {value!r} only")
    for layer in values.get("layer_types", []):
        if layer != "full_attention":
            raise IntakeError(f"{path}: layer_types asks for {layer}, and our model attends to everything")
    values = DEFAULTS[kind] | values
    scaling = yarn(rope, path)
    try:
        experts = {}
        if kind == "qwen3_moe":
            experts = {
                "num_experts": values["num_experts"] if "num_experts" in values else values["num_local_experts"],
                "num_experts_per_tok": values["num_experts_per_tok"],
                "moe_intermediate_size": values["moe_intermediate_size"],
                "norm_topk_prob": values.get("norm_topk_prob", False),
            }
        return ModelConfig(
            hidden_size=values["hidden_size"],
            num_hidden_layers=values["num_hidden_layers"],
            num_attention_heads=values["num_attention_heads"],
            num_key_value_heads=values.get("num_key_value_heads") or values["num_attention_heads"],
            intermediate_size=values["intermediate_size"],
            head_dim=values.get("head_dim"),
            max_position_embeddings=values["max_position_embeddings"],
            rope_theta=float(values["rope_theta"]),
            rope_scaling=scaling,
            rms_norm_eps=float(values["rms_norm_eps"]),
            qk_norm=kind != "llama",
            tie_word_embeddings=values.get("tie_word_embeddings", False),
            use_moe=kind == "qwen3_moe",
            vocab_size=values["vocab_size"],
            **experts,
        )
    except KeyError as error:
        raise IntakeError(f"{path}: {error.args[0]} is missing") from None
    except ValueError as error:
        raise IntakeError(f"{path}: {error}") from error


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
        return sorted(set(files.read_json(index)["weight_map"].values()))
    if not (folder / "model.safetensors").is_file():
        raise IntakeError(
            f"{folder} has no model.safetensors: pickled weights are not read, save them as safetensors first"
        )
    return ["model.safetensors"]
