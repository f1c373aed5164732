"""A mixture of experts against plain references: every token by itself, every formula written out in loops."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DeepseekV3Config
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3MLP

from minimind import experts
from minimind.model import Decoder, MixtureOfExperts, ModelConfig

torch.set_num_threads(1)

CONFIG = ModelConfig(
    hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=48,
    use_moe=True, num_experts=5, num_experts_per_tok=2, moe_intermediate_size=16, vocab_size=64,
)  # fmt: skip


def block(**changes: object) -> MixtureOfExperts:
    """A mixture with large random weights."""
    mixture = MixtureOfExperts(replace(CONFIG, **changes))
    generator = torch.Generator().manual_seed(1)
    for parameter in mixture.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    return mixture


def inputs(rows: int = 3, length: int = 9) -> Tensor:
    return torch.randn(rows, length, CONFIG.hidden_size, generator=torch.Generator().manual_seed(2), requires_grad=True)


def reference(mixture: MixtureOfExperts, x: Tensor) -> Tensor:
    """Token by token, expert by expert."""
    config, rows = mixture.config, []
    for token in x.flatten(0, 1):
        probabilities = torch.softmax(mixture.gate.weight @ token, 0)
        preferences = probabilities.detach() + (mixture.gate.e_score_correction_bias if config.router_bias_rate else 0)
        chosen = sorted(range(config.num_experts), key=lambda e: -preferences[e].item())[: config.num_experts_per_tok]
        whole = sum(probabilities[e] for e in chosen) if config.norm_topk_prob is not False and len(chosen) > 1 else 1.0
        out = torch.zeros_like(token)
        for e in chosen:
            expert = mixture.experts[e]
            inner = F.silu(expert.gate_proj.weight @ token) * (expert.up_proj.weight @ token)
            out = out + probabilities[e] / whole * (expert.down_proj.weight @ inner)
        if config.num_shared_experts:
            theirs = DeepseekV3MLP(
                DeepseekV3Config(hidden_size=32), intermediate_size=config.expert_width * config.num_shared_experts
            )
            for name in ("gate_proj", "up_proj", "down_proj"):
                getattr(theirs, name).weight = getattr(mixture.shared_experts, name).weight
            out = out + theirs(token)
        rows.append(out)
    return torch.stack(rows).view(x.shape)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_experts_per_tok": 1},
        {"norm_topk_prob": False},
        {"num_shared_experts": 2},
        {"num_experts": 16, "num_experts_per_tok": 6, "moe_intermediate_size": 8},
        {"router_bias_rate": 0.1},
    ],
    ids=str,
)
def test_outputs_and_gradients_equal_the_reference(changes: dict[str, object]) -> None:
    mixture = block(**changes)
    if mixture.config.router_bias_rate:
        mixture.gate.e_score_correction_bias.copy_(torch.tensor([0.9, 0.0, 0.3, -0.2, 0.0]))  # type: ignore[union-attr]
    results = []
    for compute in (
        lambda x: mixture(x, torch.ones(x.shape[:2], dtype=torch.bool))[0],
        lambda x: reference(mixture, x),
    ):
        x = inputs()
        mixture.zero_grad()
        out = compute(x)
        (out * torch.linspace(-1, 1, out.numel()).view(out.shape)).sum().backward()
        grads = [parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
                 for parameter in mixture.parameters()]  # fmt: skip
        results.append([out.detach(), x.grad, *grads])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_an_expert_that_nobody_visits_gets_a_gradient_of_zero() -> None:
    mixture = block(num_experts_per_tok=1)
    with torch.no_grad():
        mixture.gate.weight.zero_()
        mixture.gate.weight[3] = 1.0
    x = torch.rand(2, 4, CONFIG.hidden_size)
    out, routing = mixture(x, torch.ones(2, 4, dtype=torch.bool))
    out.sum().backward()
    assert routing.load.tolist() == [[0, 0, 0, 5, 0]] * 2
    for number, expert in enumerate(mixture.experts):
        for parameter in expert.parameters():
            assert parameter.grad is not None and (number == 3) == bool(parameter.grad.any())


def test_equal_runs_give_equal_bits() -> None:
    gradients = []
    for _ in range(2):
        mixture, x = block(num_experts_per_tok=3), inputs(4, 64)
        mixture(x.bfloat16(), torch.ones(4, 64, dtype=torch.bool))[0].float().square().sum().backward()
        gradients.append([x.grad, *(parameter.grad for parameter in mixture.parameters())])
    assert all(torch.equal(first, second) for first, second in zip(*gradients, strict=True))


def test_the_operators_keep_their_promises_to_autograd_and_compilers() -> None:
    rows, matrices = torch.randn(12, 3, requires_grad=True), torch.randn(4, 5, 3, requires_grad=True)
    ends = torch.tensor([2, 2, 11, 12], dtype=torch.int32)
    torch.library.opcheck(experts.grouped_product, (rows, matrices, ends))
    torch.library.opcheck(experts.grouped_outer, (torch.randn(12, 5), torch.randn(12, 3), ends))
    torch.autograd.gradcheck(experts.grouped_product, (rows.double(), matrices.double(), ends))


def test_a_router_of_single_experts_learns_from_the_output() -> None:
    """Normalised weights of one expert would be the constant 1, so they are not normalised unless told to be."""
    mixture = block(num_experts_per_tok=1)
    mixture(inputs(), torch.ones(3, 9, dtype=torch.bool))[0].sum().backward()
    assert mixture.gate.weight.grad is not None and mixture.gate.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("per", ["sequence", "batch"])
def test_losses_load_and_entropy_by_hand(per: str) -> None:
    """Padding left out, in loops over rows, tokens and experts."""
    mixture = block(router_aux_loss_coef=0.3, router_z_loss_coef=0.07, router_aux_loss_per=per)
    x, lengths = inputs(), [9, 4, 0]
    real = torch.tensor([[position < length for position in range(9)] for length in lengths])
    _, routing = mixture(x, real)
    E, K = 5, 2
    rows = []
    for row, length in enumerate(lengths):
        visits, mass, size, entropy = [0] * E, [0.0] * E, 0.0, 0.0
        for token in x[row, :length].detach():
            scores = (mixture.gate.weight @ token).tolist()
            whole = sum(map(math.exp, scores))
            p = [math.exp(score) / whole for score in scores]
            for e in sorted(range(E), key=lambda e: -p[e])[:K]:
                visits[e] += 1
            mass = [old + new for old, new in zip(mass, p, strict=True)]
            size += math.log(whole) ** 2
            entropy -= sum(q * math.log(q) for q in p)
        rows.append((visits, mass, size, entropy))
    for row, length in enumerate(lengths):
        visits, mass, size, entropy = rows[row]
        n = max(length, 1)
        torch.testing.assert_close(routing.load[row], torch.tensor([E * v / (K * n) for v in visits]))
        torch.testing.assert_close(routing.entropy[row].item(), entropy / n, atol=1e-5, rtol=1e-5)
        judged = rows if per == "batch" else [rows[row]]
        count = max(sum(lengths) if per == "batch" else length, 1)
        shares = [sum(r[0][e] for r in judged) / (K * count) * sum(r[1][e] for r in judged) / count for e in range(E)]
        expected = 0.3 * E * sum(shares) + 0.07 * size / n
        torch.testing.assert_close(routing.loss[row].item(), expected, atol=1e-5, rtol=1e-5)


def test_metrics_count_rows_by_their_units() -> None:
    routing = experts.Routing(
        torch.tensor([1.0, 2.0]), torch.tensor([0.5, 0.1]), torch.tensor([[[2.0, 0.0]], [[1.0, 1.0]]])
    )
    loss, metrics = routing.summed(torch.tensor([3, 1]))
    assert loss.item() == 5
    assert {name: round(value.item(), 5) for name, value in metrics.items()} == {
        "router_loss": 5, "router_entropy": 1.6, "load_0_0": 7, "load_0_1": 1,
    }  # fmt: skip


def test_biases_bring_a_lopsided_router_into_balance() -> None:
    """No loss is asked for balance, and no weight is moved: the choice alone follows the biases."""
    config = replace(CONFIG, router_bias_rate=0.005, router_aux_loss_coef=0.0, num_experts_per_tok=1)
    model = Decoder(config).initialise(1)
    ids = torch.randint(64, (8, 64), generator=torch.Generator().manual_seed(3))
    worst = []
    with torch.no_grad():
        for layer in model.model.layers:
            layer.mlp.gate.weight.mul_(3)
        for _ in range(150):
            routing = model(ids, torch.ones_like(ids))[1]
            _, metrics = routing.summed(torch.full((8,), 64))
            loads = {name: value / 512 for name, value in metrics.items()}
            worst.append(max(value.item() for name, value in loads.items() if name.startswith("load_")))
            model.rebalance(loads)
    assert worst[0] > 1.5 and max(worst[-5:]) < 1.4
    assert "model.layers.1.mlp.gate.e_score_correction_bias" in model.state_dict()
    assert Decoder(replace(config, router_bias_rate=0.0)).num_parameters() == model.num_parameters()
