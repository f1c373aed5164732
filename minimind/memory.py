"""How much memory training takes, estimated before it starts, so that what can't fit fails at once and says why."""

import os

import psutil
import torch

from minimind.config import Runtime
from minimind.errors import UserError
from minimind.model import Decoder

GIB = 2**30


def training_bytes(
    model: Decoder, tokens: int, checkpoint_activations: bool, zero_stage: int = 0, processes: int = 1,
    offload: bool = False,
) -> int:  # fmt: skip
    """About how many bytes a step takes whose largest forward pass has `tokens` tokens; the optimizer is AdamW.

    Weights, gradients and two moments in fp32, the copy of the weights in the dtype of computation; what each layer
    keeps for the backward pass (inputs and outputs of norms, projections, attention and feed-forward, or its input
    only); the logits with their fp32 copy and gradient. Several replicas add their gradients up in one message. Frozen
    weights have neither gradients nor moments. From `zero_stage` 1 on the processes split the moments and a second
    fp32 copy of the weights, from 2 on the gradients too, in 3 the weights too; `offload` keeps moments and copy out of
    a GPU's memory.
    """
    config, size = model.config, 2 if model.dtype == torch.bfloat16 else 4
    parameters = sum(parameter.numel() for parameter in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    heads = (2 * config.num_attention_heads + 2 * config.num_key_value_heads) * config.head_width
    if config.use_moe:  # each visit has its copies of input and output
        visits = config.num_experts_per_tok + config.num_shared_experts
        inner = visits * (3 * config.expert_width + 2 * config.hidden_size)
    else:
        inner = 3 * config.intermediate_size
    layer = 4 * config.hidden_size + heads + inner
    kept = layer + 2 * config.hidden_size * config.num_hidden_layers if checkpoint_activations else (
        layer * config.num_hidden_layers
    )  # fmt: skip
    weights, gradients = 4 / (processes if zero_stage == 3 else 1), 4 / (processes if zero_stage >= 2 else 1)
    if zero_stage:  # moments and second copy
        rest = 0 if offload and model.cos.device.type != "cpu" else 12 / processes
    else:  # moments and message
        rest = 8 if processes == 1 else 12
    return round(parameters * (weights + size) + trained * (gradients + rest)) + tokens * (
        kept * size + config.vocab_size * (2 * size + 4)
    )


def free_bytes(device: torch.device) -> int:
    """Memory that a process can still take on the device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    return psutil.virtual_memory().available


def check(model: Decoder, tokens: int, runtime: Runtime, zero_stage: int = 0, processes: int = 1) -> None:
    """Raises UserError, with what to change, where `training_bytes` exceeds what is free.

    The processes of one machine (LOCAL_WORLD_SIZE, or all of them) share its memory, unless each has a GPU.
    """
    recomputed = runtime.checkpoint_activations
    needed = training_bytes(model, tokens, recomputed, zero_stage, processes, runtime.offload)
    if model.cos.device.type == "cpu":
        needed *= min(processes, int(os.environ.get("LOCAL_WORLD_SIZE", processes)))
    free = free_bytes(model.cos.device)
    if needed > free:
        raise UserError(
            f"training needs about {needed / GIB:.1f} GiB, and {free / GIB:.1f} GiB are free on {model.cos.device}: "
            "lower runtime.micro_batch_size"
            + ("" if recomputed else ", set runtime.checkpoint_activations: true")
            + ", or take a smaller model"
        )
