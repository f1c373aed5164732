"""A checkpoint as one GGUF file, for llama.cpp, Ollama, LM Studio and their kin; and reading it back.

| checkpoint                                             | architecture of llama.cpp |
|--------------------------------------------------------|---------------------------|
| Llama                                                  | llama                     |
| Qwen3                                                  | qwen3                     |
| Qwen3-MoE whose expert weights are normalised          | qwen3moe                  |
| Qwen3-MoE whose expert weights are not (top-1 routing) | glm4moe                   |

qwen3moe normalises in any case, so the last kind needs another: glm4moe is the same network with that as an option,
and with a bias of the router and a shared expert, which are all zeros here.

Matrices are quantised, vectors and routers stay in fp32. Q8_0 works on blocks of 32 numbers: a matrix whose rows are
no multiple of that is kept in fp16.
"""

import re
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Kind
from torch import Tensor

from minimind import card, files
from minimind.export import vocabulary
from minimind.export.contents import Contents, ExportError

KINDS = {"f32": Kind.F32, "f16": Kind.F16, "bf16": Kind.BF16, "q8_0": Kind.Q8_0}
FILE_TYPES = {
    "f32": gguf.LlamaFileType.ALL_F32,
    "f16": gguf.LlamaFileType.MOSTLY_F16,
    "bf16": gguf.LlamaFileType.MOSTLY_BF16,
    "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
}
OUTSIDE = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}
INSIDE = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "mlp.gate": "ffn_gate_inp",
}
EXPERTS = {"gate_proj": "ffn_gate_exps", "up_proj": "ffn_up_exps", "down_proj": "ffn_down_exps"}


def write(contents: Contents, path: Path, quantize: str = "f32") -> None:
    """Write the checkpoint to `path`, atomically; `quantize` is one of f32, f16, bf16, q8_0.

    Equal checkpoints give equal bytes. Raises ExportError for what llama.cpp can't hold.
    """
    if quantize not in KINDS:
        raise ExportError(f"there is no {quantize!r} here: --quantize takes one of {', '.join(KINDS)}")
    contents.check_kind("GGUF")
    described = vocabulary.describe(contents)
    tensors = _tensors(contents)
    with files.file(path) as partial:
        writer = gguf.GGUFWriter(partial, _architecture(contents))
        _describe_model(writer, contents)
        writer.add_file_type(FILE_TYPES[quantize])
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        _describe_tokenizer(writer, contents, described)
        for name, tensor in tensors.items():
            kind = _kind(name, tensor, KINDS[quantize])
            writer.add_tensor(name, gguf.quantize(tensor.contiguous().numpy(), kind), raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def read_weights(path: Path, contents: Contents) -> dict[str, Tensor]:
    """The weights in a file of `write`, dequantised to fp32, under the names that they have in the checkpoint.

    Raises ExportError if the file lacks one, or holds one that the checkpoint has not.
    """
    found = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    weights = {}
    for name, parts in _names(contents).items():
        entry = found.pop(name, None)
        if entry is None:
            raise ExportError(f"{path} has no tensor {name}: export it anew")
        # Of a plain tensor the reader gives the numbers, of a quantised one its bytes.
        values = torch.from_numpy(np.array(gguf.dequantize(entry.data, entry.tensor_type), dtype=np.float32))
        if len(parts) == 1:
            weights[parts[0]] = _turned(contents, parts[0], values, back=True)
        else:
            weights |= dict(zip(parts, values, strict=True))
    strangers = [name for name in found if not (_is_glm(contents) and ("_shexp." in name or "exp_probs_b" in name))]
    if strangers:
        raise ExportError(f"{path} has a tensor {strangers[0]} that {contents.folder} has not: export it anew")
    return weights


def _architecture(contents: Contents) -> str:
    if contents.config["model_type"] != "qwen3_moe":
        return str(contents.config["model_type"])
    return "qwen3moe" if contents.config["norm_topk_prob"] else "glm4moe"


def _is_glm(contents: Contents) -> bool:
    return _architecture(contents) == "glm4moe"


def _describe_model(writer: gguf.GGUFWriter, contents: Contents) -> None:
    config, rope = contents.config, contents.rope
    writer.add_type("model")
    writer.add_name(contents.name)
    if (allowed := card.license(contents.lineage)) is not None:
        writer.add_license(allowed)
    writer.add_size_label(_size_label(contents))
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(rope["rope_theta"])
    if rope["rope_type"] == "yarn":
        _describe_yarn(writer, contents)
    if config["model_type"] == "qwen3_moe":
        writer.add_expert_count(config["num_experts"])
        writer.add_expert_used_count(config["num_experts_per_tok"])
        writer.add_expert_feed_forward_length(config["moe_intermediate_size"])
    if _is_glm(contents):
        writer.add_leading_dense_block_count(0)
        writer.add_expert_shared_count(1)
        writer.add_expert_weights_norm(False)
        writer.add_expert_weights_scale(1.0)
        writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SOFTMAX)


def _size_label(contents: Contents) -> str:
    """As llama.cpp writes it: 26M, or 4x8M, the numbers of experts and of the parameters of one and of the rest."""
    experts = [tensor.numel() for name, tensor in contents.tensors.items() if ".experts." in name]
    count = contents.config.get("num_experts", 0) if experts else 0
    one = sum(experts) // count if count else 0
    return gguf.size_label(contents.num_parameters, contents.num_parameters - sum(experts), one, count)


def _describe_yarn(writer: gguf.GGUFWriter, contents: Contents) -> None:
    """llama.cpp fixes what transformers leaves open: β 32 and 1, attention scaled by 1 + 0.1 ln(factor)."""
    rope, path = contents.rope, contents.folder / "config.json"
    for key, fixed in (("beta_fast", 32), ("beta_slow", 1)):
        if rope.get(key, fixed) != fixed:
            raise ExportError(f"{path}: rope {key} is {rope[key]}, and llama.cpp has {fixed}")
    standard = 1 + 0.1 * float(np.log(rope["factor"]))
    if abs((rope.get("attention_factor") or standard) - standard) > 1e-6:
        raise ExportError(
            f"{path}: rope attention_factor is {rope['attention_factor']}, and llama.cpp has {standard:.6f}"
        )
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(rope["factor"])
    writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])


def _describe_tokenizer(writer: gguf.GGUFWriter, contents: Contents, described: vocabulary.Vocabulary) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(described.cut)
    writer.add_token_list(described.tokens)
    writer.add_token_types(described.types)
    writer.add_token_merges(described.merges)
    for role, add in (
        ("bos", writer.add_bos_token_id),
        ("eos", writer.add_eos_token_id),
        ("pad", writer.add_pad_token_id),
    ):
        number = contents.token(role)
        if number is not None:
            add(number)
    if (end := vocabulary.end_of_turn(contents)) is not None:
        writer.add_eot_token_id(end)
    writer.add_add_bos_token(False)
    template = contents.tokenizer_config.get("chat_template")
    if template is not None:
        writer.add_chat_template(without_generation(template))


def without_generation(template: str) -> str:
    """A chat template without its `{% generation %}` tags, which mark what is to be learned and only few can read."""
    # A tag on a line of its own takes the line with it, as trim_blocks and lstrip_blocks would.
    alone = re.sub(r"^[ \t]*\{%\s*(end)?generation\s*%\}\n", "", template, flags=re.MULTILINE)
    return re.sub(r"\s*\{%-\s*(end)?generation\s*%\}\n?", "", alone)


def _names(contents: Contents) -> dict[str, list[str]]:
    """The tensors of the file: for each, the weight or, where experts are stacked, the weights that it is made of."""
    names = {f"{theirs}.weight": [f"{ours}.weight"] for ours, theirs in OUTSIDE.items()}
    inside = INSIDE | ({"post_attention_layernorm": "post_attention_norm"} if _is_glm(contents) else {})
    for layer in range(contents.config["num_hidden_layers"]):
        ours, theirs = f"model.layers.{layer}", f"blk.{layer}"
        names |= {f"{theirs}.{there}.weight": [f"{ours}.{here}.weight"] for here, there in inside.items()}
        if contents.config["model_type"] == "qwen3_moe":
            for here, there in EXPERTS.items():
                names[f"{theirs}.{there}.weight"] = [
                    f"{ours}.mlp.experts.{expert}.{here}.weight" for expert in range(contents.config["num_experts"])
                ]
    names = {name: parts for name, parts in names.items() if parts[0] in contents.tensors}
    strangers = contents.tensors.keys() - {part for parts in names.values() for part in parts}
    if strangers:
        raise ExportError(f"{contents.folder}: {min(strangers)} has no place in GGUF")
    return names


def _tensors(contents: Contents) -> dict[str, Tensor]:
    """The tensors of the file, fp32."""
    tensors = {
        name: torch.stack([contents.tensors[part] for part in parts])
        if len(parts) > 1 or "_exps" in name
        else _turned(contents, parts[0], contents.tensors[parts[0]])
        for name, parts in _names(contents).items()
    }
    if _is_glm(contents):
        config = contents.config
        shapes = {
            "exp_probs_b.bias": (config["num_experts"],),
            "ffn_gate_shexp.weight": (config["moe_intermediate_size"], config["hidden_size"]),
            "ffn_up_shexp.weight": (config["moe_intermediate_size"], config["hidden_size"]),
            "ffn_down_shexp.weight": (config["hidden_size"], config["moe_intermediate_size"]),
        }
        for layer in range(config["num_hidden_layers"]):
            tensors |= {f"blk.{layer}.{name}": torch.zeros(shape) for name, shape in shapes.items()}
    return tensors


def _turned(contents: Contents, name: str, weight: Tensor, back: bool = False) -> Tensor:
    """Rows of a Llama's queries and keys in llama.cpp's order: it turns neighbours, (2i, 2i + 1), not (i, i + K/2)."""
    if contents.config["model_type"] != "llama" or not name.endswith(("q_proj.weight", "k_proj.weight")):
        return weight
    pairs = (contents.config["head_dim"] // 2, 2) if back else (2, contents.config["head_dim"] // 2)
    return weight.view(-1, *pairs, weight.shape[1]).transpose(1, 2).reshape(weight.shape)


def _kind(name: str, tensor: Tensor, wanted: Kind) -> Kind:
    """How this tensor is stored, where matrices are to be `wanted`."""
    if tensor.ndim == 1 or "ffn_gate_inp" in name:
        return Kind.F32
    block: Any = gguf.GGML_QUANT_SIZES[wanted][0]
    return wanted if tensor.shape[-1] % block == 0 else Kind.F16
