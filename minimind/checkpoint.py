"""A trained model on disk: a folder that Hugging Face's classes load, and that knows where it comes from.

    model.safetensors                         fp32 weights
    config.json, generation_config.json       for transformers 4.57 and 5, which read different spellings
    tokenizer.json, tokenizer_config.json     of the tokenizer's folder; the latter says what the model takes
    modeling_minimind.py                      for mixtures of experts that no class of transformers computes, only
    adapter/                                  what LoRA added to the parent, if that was trained, as peft reads it
    README.md                                 a short card, for the hub; in no manifest, for it may be edited
    manifest.json                             sha256 of each file, our own model config, the lineage

Equal runs write equal bytes: no clock, no host name, no thread count goes in.
"""

import dataclasses
import hashlib
import importlib.metadata
import json
import platform
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from minimind import card, config, files, modeling
from minimind.errors import UserError
from minimind.model import Decoder, ModelConfig, Stack
from minimind.tokenizer import read, read_config

WEIGHTS = "model.safetensors"
DISABLED = "disabled.json"
"""In the folder of a stage that was left out: {"reason"}."""
TOKENIZER, TOKENIZER_CONFIG = TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
INPUT_NAMES = ("input_ids", "attention_mask")  # without them transformers 4 adds token_type_ids, which fail
MAX_TABLE = 1 << 29  # numbers in the tables of rotary positions: 2 GiB of them
LIBRARIES = ("torch", "numpy", "safetensors", "tokenizers")  # what the weights depend on


class CheckpointError(UserError):
    """A checkpoint that this code can't write or read; the message names the file and says the mend."""


def save(
    folder: Path,
    model: Decoder,
    tokenizer: Path,
    lineage: Mapping[str, object],
    generation: Mapping[str, object] | None = None,
    more: Callable[[Path], None] | None = None,
) -> None:
    """Write `model` to `folder`, atomically, with the tokenizer in the folder `tokenizer`.

    `generation` adds defaults for sampling (`temperature`, `top_p`, …); without it they say greedy. `more` writes
    further files into the folder it is given.
    """
    ids = special_ids(tokenizer)
    described = huggingface_config(model.config) | ids
    weights = {name: value.detach().to("cpu", torch.float32).contiguous() for name, value in model.state_dict().items()}
    with files.folder(folder) as partial:
        save_file(weights, partial / WEIGHTS, {"format": "pt"})
        files.write_json(partial / "config.json", described)
        files.write_json(partial / "generation_config.json", ids | {"do_sample": False} | dict(generation or {}))
        if "auto_map" in described:
            files.write_text(partial / f"{modeling.NAME}.py", modeling.SOURCE)
        shutil.copyfile(tokenizer / TOKENIZER, partial / TOKENIZER)
        files.write_json(partial / TOKENIZER_CONFIG, tokenizer_config(tokenizer, model.config))
        if more is not None:
            more(partial)
        files.write_manifest(partial, {"model": dataclasses.asdict(model.config), "lineage": lineage})
        files.write_text(partial / "README.md", card.write("model", model.num_parameters(), lineage))


def pass_on(parent: Path, folder: Path, lineage: Mapping[str, object], reason: str) -> None:
    """Write the checkpoint `parent` to `folder` once more, for a stage that has nothing to train on.

    DISABLED in `folder` says why. What LoRA added to the parent stays behind, since it is no change of this stage.
    """
    manifest = files.verify_manifest(parent)
    with files.folder(folder) as partial:
        for name in manifest["files"]:
            if "/" not in name and name != DISABLED:
                shutil.copyfile(parent / name, partial / name)
        files.write_json(partial / DISABLED, {"reason": reason})
        files.write_manifest(partial, {"model": manifest["model"], "lineage": lineage})


def disabled(folder: Path) -> str:
    """Why the stage that wrote `folder` did not do its work; empty if it did."""
    path = folder / DISABLED
    return str(files.read_json(path)["reason"]) if path.exists() else ""


def load(folder: Path, dtype: torch.dtype = torch.float32) -> Decoder:
    """The model in `folder`, on the CPU, its parameters in fp32 and computing in `dtype`.

    Raises files.CorruptError if a file differs from the manifest, CheckpointError if the weights don't fit.
    """
    manifest = files.verify_manifest(folder)
    try:
        described = config.parse(ModelConfig, manifest.get("model"), folder / files.MANIFEST, "model")
        weights = read_weights(folder / WEIGHTS)
        check_fit(described, weights, folder / WEIGHTS)
        model = Decoder(described, dtype)
        model.load_state_dict(weights, strict=True)
    except (TypeError, ValueError, RuntimeError, OSError) as error:
        raise CheckpointError(f"{folder} was written by other code, make it anew with `dvc repro`: {error}") from error
    return model


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors in a safetensors file, by name. Raises CheckpointError if it is none."""
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:  # KeyError: a dtype that torch has not
        raise CheckpointError(f"{path} can't be read as safetensors: {error}") from error


def check_fit(described: ModelConfig, weights: Mapping[str, Tensor], path: Path) -> None:
    """Raise CheckpointError, naming the first weight that differs, unless the weights are those of such a model.

    However large the description, this takes neither long nor much memory. `path` is where the weights come from.
    """
    for key, pattern, wanted in (
        ("num_hidden_layers", r"model\.layers\.(\d+)\.", described.num_hidden_layers),
        ("num_experts", r"model\.layers\.\d+\.mlp\.experts\.(\d+)\.", described.num_experts * described.use_moe),
    ):
        found = 1 + max((int(match[1]) for name in weights if (match := re.match(pattern, name))), default=-1)
        if found != wanted:
            raise CheckpointError(f"{path} has weights of {found} {key[4:]}, and its description says {key} {wanted}")
    if described.max_position_embeddings * described.head_width > MAX_TABLE:
        raise CheckpointError(
            f"{path}: max_position_embeddings is {described.max_position_embeddings:,} in its description, and their "
            "angles alone would take gigabytes: lower it to what the model was trained on"
        )
    with torch.device("meta"):
        shapes = {f"model.{name}": tensor.shape for name, tensor in Stack(described).state_dict().items()}
    if not described.tie_word_embeddings:
        shapes["lm_head.weight"] = torch.Size((described.vocab_size, described.hidden_size))
    for name in sorted(shapes.keys() | weights.keys()):
        if name not in weights:
            raise CheckpointError(f"{path} has no weight {name}, which a model of its description has")
        if name not in shapes:
            raise CheckpointError(f"{path} has a weight {name} that our model has no place for")
        if weights[name].shape != shapes[name]:
            differing = [tuple(shape) for shape in (weights[name].shape, shapes[name])]
            raise CheckpointError(
                f"{path}: {name} has the shape {differing[0]}, and its description says {differing[1]}"
            )


def lineage(stage: str, inputs: Mapping[str, Path], params: object) -> dict[str, Any]:
    """Where the checkpoint of `stage` comes from: digests of its inputs by role, params, code and library versions.

    `params` is a dataclass, or None for a stage without. The code is every file of Python or C among the stage's
    dependencies in dvc.yaml.
    Raises config.ConfigError if the stage is not there.
    """
    declaration = config.read(Path("dvc.yaml")).get("stages", {}).get(stage)
    if declaration is None:
        raise config.ConfigError(f"dvc.yaml: no stage `{stage}`: the code of a checkpoint is listed there")
    code = sorted(dep for dep in declaration["deps"] if dep.endswith((".py", ".c")))
    versions = {name: importlib.metadata.version(name) for name in LIBRARIES}
    ancestor = card.base(_lineage_of(inputs["parent"])) if "parent" in inputs else None
    return {
        "stage": stage,
        **({} if ancestor is None else {"base": ancestor}),
        "inputs": {role: digest(path) for role, path in sorted(inputs.items())},
        "params": {} if params is None else dataclasses.asdict(params),  # type: ignore[call-overload]
        "code": {name: files.sha256(Path(name)) for name in code},
        "versions": {"python": platform.python_version(), **versions},
    }


def _lineage_of(folder: Path) -> dict[str, Any]:
    """The lineage in the manifest of a checkpoint, empty where there is none."""
    return dict(files.read_manifest(folder).get("lineage", {})) if (folder / files.MANIFEST).is_file() else {}


def digest(path: Path) -> str:
    """Identity of a file or a folder: SHA-256 of the file, of the folder's manifest, or of its listing without one."""
    if path.is_file():
        return files.sha256(path)
    if (path / files.MANIFEST).is_file():
        return files.sha256(path / files.MANIFEST)
    listing = {file.relative_to(path).as_posix(): files.sha256(file) for file in path.rglob("*") if file.is_file()}
    return hashlib.sha256(json.dumps(listing, sort_keys=True).encode()).hexdigest()


def huggingface_config(model: ModelConfig) -> dict[str, Any]:
    """config.json without token ids: Llama, Qwen3 (with `qk_norm`) or Qwen3-MoE (with `use_moe` too).

    A mixture with shared experts or biases of the choice, or without `qk_norm`, has a class of its own, that of
    `modeling`, which config.json names under `auto_map`.
    """
    kind, architecture = ("qwen3", "Qwen3ForCausalLM") if model.qk_norm else ("llama", "LlamaForCausalLM")
    experts: dict[str, Any] = {}
    if model.use_moe:
        kind, architecture = "qwen3_moe", "Qwen3MoeForCausalLM"
        experts = {
            "num_experts": model.num_experts,
            "num_local_experts": model.num_experts,
            "num_experts_per_tok": model.num_experts_per_tok,
            "moe_intermediate_size": model.expert_width,
            "norm_topk_prob": model.normalises_weights,
            "router_aux_loss_coef": model.router_aux_loss_coef,
            "output_router_logits": False,
            "decoder_sparse_step": 1,
            "mlp_only_layers": [],
        }
        if model.num_shared_experts or model.router_bias_rate or not model.qk_norm:
            kind, architecture = "minimind", "MinimindForCausalLM"
            experts |= {
                "auto_map": {
                    "AutoConfig": f"{modeling.NAME}.MinimindConfig",
                    "AutoModelForCausalLM": f"{modeling.NAME}.MinimindForCausalLM",
                },
                "num_shared_experts": model.num_shared_experts,
                "selection_bias": model.router_bias_rate > 0,
                "qk_norm": model.qk_norm,
            }
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": model.rope_theta}
    if model.rope_scaling is not None:
        # The names of the fields are those of transformers; an absent attention_factor is worked out there as here.
        scaling = {k: v for k, v in dataclasses.asdict(model.rope_scaling).items() if v is not None}
        rope |= {"rope_type": "yarn"} | scaling
        experts["rope_scaling"] = rope
    return {
        "architectures": [architecture],
        "model_type": kind,
        "vocab_size": model.vocab_size,
        "hidden_size": model.hidden_size,
        "num_hidden_layers": model.num_hidden_layers,
        "num_attention_heads": model.num_attention_heads,
        "num_key_value_heads": model.num_key_value_heads,
        "head_dim": model.head_width,
        "intermediate_size": model.intermediate_size,
        "hidden_act": "silu",
        "max_position_embeddings": model.max_position_embeddings,
        "rms_norm_eps": model.rms_norm_eps,
        "rope_theta": model.rope_theta,
        "rope_parameters": rope,
        "tie_word_embeddings": model.tie_word_embeddings,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "torch_dtype": "float32",
        "dtype": "float32",
        "use_cache": True,
        **experts,
    }


def tokenizer_config(tokenizer: Path, model: ModelConfig) -> dict[str, Any]:
    """tokenizer_config.json of a tokenizer's folder, with the names and the number of what `model` takes."""
    described = files.read_json(tokenizer / TOKENIZER_CONFIG)
    taken = {"model_input_names": list(INPUT_NAMES), "model_max_length": model.max_position_embeddings}
    return described | taken


def special_ids(tokenizer: Path) -> dict[str, int]:
    """`bos_token_id`, `eos_token_id` and `pad_token_id` of the tokenizer in this folder, as far as it has them."""
    names = read_config(tokenizer)
    known = read(tokenizer)
    ids = {}
    for role in ("bos_token", "eos_token", "pad_token"):
        if not (token := names.get(role)):
            continue
        number = known.token_to_id(token) if isinstance(token, str) else None
        if number is None:
            raise CheckpointError(
                f"{tokenizer / 'tokenizer_config.json'}: {role} is {token!r}, which tokenizer.json has no "
                "token for: correct it, or leave it out"
            )
        ids[f"{role}_id"] = number
    return ids
