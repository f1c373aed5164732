"""MiniMind's own *.pth: a state dict without a description, so what it is follows from names and shapes.

What they leave open is taken from `--set` or a config beside the file, or else is that of the releases:

| file                   | queries and keys | heads          | θ   | ε    | experts                                |
|------------------------|------------------|----------------|-----|------|----------------------------------------|
| minimind-3             | normalised       | by norms' size | 1e6 | 1e-6 | none                                   |
| minimind-3-moe         | normalised       | by norms' size | 1e6 | 1e-6 | routed, top-1, weights add up to 1     |
| MiniMind2, -Small, -R1 | not normalised   | 8              | 1e6 | 1e-5 | none                                   |
| MiniMind2-MoE          | not normalised   | 8              | 1e6 | 1e-5 | routed, top-2, and shared ones         |

Names are those of MiniMindForCausalLM, which are Hugging Face's. The head is stored although it is tied. Shared experts
are stored one by one; their sum is one wider expert, as which we keep them.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minimind.intake import assumptions
from minimind.intake.assumptions import Said
from minimind.intake.huggingface import Foreign
from minimind.intake.origin import IntakeError
from minimind.model import ModelConfig

MINIMIND2_HEADS = 8
POSITIONS = 32768


def read(path: Path, options: Sequence[str] = ()) -> Foreign:
    """The model in the file `path`, never unpickling anything but tensors; `options` are "key=value".

    Raises IntakeError.
    """
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever torch raises: the file may be anything
        raise IntakeError(f"{path} is no file of weights that can be loaded safely: {error}") from error
    if not isinstance(stored, dict) or not all(isinstance(value, Tensor) for value in stored.values()):
        raise IntakeError(
            f"{path} holds more than weights: of MiniMind's files take the one without `_resume` in its name"
        )
    weights = {str(name): tensor.float() for name, tensor in stored.items()}
    _refuse_others(weights, path)
    head = weights.pop("lm_head.weight", None)
    tied = head is None or torch.equal(head, weights["model.embed_tokens.weight"])
    if head is not None and not tied:
        weights["lm_head.weight"] = head
    said = assumptions.said(path, options)
    described, assumed = _describe(weights, tied, said, path)
    return Foreign(described, _joined(weights), [path, *said.files], {}, assumed, dict(said.values))


def _refuse_others(weights: dict[str, Tensor], path: Path) -> None:
    """Raise IntakeError, saying what it is, for a file of MiniMind's that is something else."""
    for part, what in (
        (".lora.", "it is an adapter (LoRA): merge it into its model first"),
        ("vision_", "it is a model that sees"),
    ):
        if any(part in name for name in weights):
            raise IntakeError(f"{path}: {what}")
    if "tok_embeddings.weight" in weights:
        raise IntakeError(
            f"{path} is of MiniMind's time before 2025-04-26, when rotary positions turned neighbouring numbers: "
            "our model turns halves"
        )
    attention = (f"model.layers.0.self_attn.{part}_proj.weight" for part in "qk")
    if missing := [name for name in ("model.embed_tokens.weight", *attention) if name not in weights]:
        raise IntakeError(f"{path} has no {missing[0]}: it is none of MiniMind's models")


def _joined(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same with the shared experts of each layer as one: inner rows below each other, and columns likewise."""
    found: dict[str, list[Tensor]] = {}
    for name, weight in sorted(weights.items()):
        found.setdefault(re.sub(r"\.shared_experts\.\d+\.", ".shared_experts.", name), []).append(weight)
    return {name: torch.cat(parts, int("down_proj" in name)) for name, parts in found.items()}


def _describe(weights: dict[str, Tensor], tied: bool, said: Said, path: Path) -> tuple[ModelConfig, list[str]]:
    first = "model.layers.0"
    numbers = {int(match[1]) for name in weights if (match := re.match(r"model\.layers\.(\d+)\.", name))}
    queries, keys = (weights[f"{first}.self_attn.{part}_proj.weight"].shape[0] for part in ("q", "k"))
    norm = weights.get(f"{first}.self_attn.q_norm.weight")
    heads = said.values.get("num_attention_heads", MINIMIND2_HEADS) if norm is None else queries // len(norm)
    if type(heads) is not int or heads < 1 or queries % heads or keys % (queries // heads):
        raise IntakeError(
            f"{path}: its shapes, {queries} rows of queries and {keys} of keys, don't make {heads} heads: say how many "
            "with --set num_attention_heads=NUMBER"
        )
    width = queries // heads
    routed, shared = (
        {int(match[1]) for name in weights if (match := re.match(rf"{first}\.mlp\.{kind}\.(\d+)\.", name))}
        for kind in ("experts", "shared_experts")
    )
    inner = weights.get(f"{first}.mlp.{'experts.0.' if routed else ''}gate_proj.weight")
    if inner is None:
        raise IntakeError(f"{path} has no feed-forward in {first}.mlp: it is none of MiniMind's models")
    vocab_size, hidden_size = weights["model.embed_tokens.weight"].shape
    shaped: dict[str, Any] = {
        "hidden_size": hidden_size,
        "num_hidden_layers": len(numbers),
        "num_key_value_heads": keys // width,
        "intermediate_size": inner.shape[0],
        "head_dim": width,
        "qk_norm": norm is not None,
        "tie_word_embeddings": tied,
        "use_moe": bool(routed),
        "num_shared_experts": len(shared),
        "vocab_size": vocab_size,
    }
    released: dict[str, Any] = {
        "rope_theta": 1e6,
        "rms_norm_eps": 1e-5 if norm is None else 1e-6,
        "max_position_embeddings": POSITIONS,
    }
    (released if norm is None else shaped)["num_attention_heads"] = heads
    if routed:
        shaped |= {"num_experts": len(routed), "moe_intermediate_size": inner.shape[0]}
        released |= {"num_experts_per_tok": 2 if norm is None else 1, "norm_topk_prob": True}
    elif unfit := [key for key in assumptions.FREE_OF_EXPERTS if key in said.values]:
        raise IntakeError(f"{said.places[unfit[0]]}: {path} has no experts")
    return assumptions.settle(shaped, released, said, path)
