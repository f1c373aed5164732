"""The file that goes with the weights of a mixture for which transformers has no class: shared experts, biases of the
choice, or no query and key norms. `AutoModelForCausalLM` runs it only where the user says `trust_remote_code=True`.
"""

NAME = "modeling_minimind"

SOURCE = '''\
"""Qwen3 of transformers with a mixture of experts in the place of each feed-forward layer.

    AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)

Needs nothing but torch and transformers (4.57 or 5). It is here because no class of transformers has softmax gates
together with shared experts, with biases that only choose experts, or without query and key norms. The fields of
config.json beyond Qwen3's: num_experts, num_experts_per_tok, num_shared_experts (their weights lie together as one
wider expert), moe_intermediate_size, norm_topk_prob, selection_bias, qk_norm.
"""

import torch
import torch.nn.functional as F
from torch import nn
from transformers import Qwen3Config, Qwen3ForCausalLM


class MinimindConfig(Qwen3Config):
    """Qwen3's, and the fields of the mixture."""

    model_type = "minimind"


class FeedForward(nn.Module):
    """SwiGLU: down(silu(gate x) * up x)."""

    def __init__(self, width, inner):
        super().__init__()
        self.gate_proj = nn.Linear(width, inner, bias=False)
        self.up_proj = nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class MixtureOfExperts(nn.Module):
    """Each token visits its most probable experts, weighted by their probabilities, and the shared ones."""

    def __init__(self, config):
        super().__init__()
        width, inner = config.hidden_size, config.moe_intermediate_size
        self.top_k, self.normalises = config.num_experts_per_tok, config.norm_topk_prob
        self.gate = nn.Linear(width, config.num_experts, bias=False)
        if config.selection_bias:
            self.gate.register_buffer("e_score_correction_bias", torch.zeros(config.num_experts))
        self.experts = nn.ModuleList(FeedForward(width, inner) for _ in range(config.num_experts))
        if config.num_shared_experts:
            self.shared_experts = FeedForward(width, config.num_shared_experts * inner)

    def forward(self, hidden_states):
        x = hidden_states.flatten(0, -2)
        probabilities = F.linear(x.float(), self.gate.weight.float()).softmax(-1)
        preferences = probabilities + getattr(self.gate, "e_score_correction_bias", 0.0)
        chosen = preferences.topk(self.top_k, -1).indices
        weights = probabilities.gather(-1, chosen)
        if self.normalises:
            weights = weights / weights.sum(-1, keepdim=True)
        out = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            token, slot = torch.where(chosen == number)
            out = out.index_add(0, token, expert(x[token]) * weights[token, slot, None].to(x.dtype))
        if hasattr(self, "shared_experts"):
            out = out + self.shared_experts(x)
        return out.view_as(hidden_states)


class MinimindForCausalLM(Qwen3ForCausalLM):
    """Qwen3 with the mixture, and, where `qk_norm` is false, with queries and keys as they are."""

    config_class = MinimindConfig

    def __init__(self, config):
        super().__init__(config)
        for layer in self.model.layers:
            layer.mlp = MixtureOfExperts(config)
            if not config.qk_norm:
                layer.self_attn.q_norm, layer.self_attn.k_norm = nn.Identity(), nn.Identity()
        self.post_init()
'''
