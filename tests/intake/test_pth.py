"""MiniMind's *.pth: its structure, written down anew from the documented names, against the imported checkpoint."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from minimind import checkpoint, cli, files

torch.set_num_threads(1)

Output = pytest.CaptureFixture[str]
V, D, INNER, LAYERS, EXPERTS = 512, 64, 96, 2, 4


def state_dict(generation: int, experts: bool = False, shared: int = 0) -> dict[str, Tensor]:
    """Random weights in fp16 under MiniMind's names; generation 3 has norms of queries and keys, 2 has not."""
    heads, groups, width = (8, 2, D // 8) if generation == 2 else (4, 2, 16)
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (V, D), "model.norm.weight": (D,)}
    for layer in range(LAYERS):
        name = f"model.layers.{layer}"
        shapes |= {
            f"{name}.input_layernorm.weight": (D,),
            f"{name}.post_attention_layernorm.weight": (D,),
            f"{name}.self_attn.q_proj.weight": (heads * width, D),
            f"{name}.self_attn.k_proj.weight": (groups * width, D),
            f"{name}.self_attn.v_proj.weight": (groups * width, D),
            f"{name}.self_attn.o_proj.weight": (D, heads * width),
        }
        if generation == 3:
            shapes |= {f"{name}.self_attn.{part}_norm.weight": (width,) for part in "qk"}
        if experts:
            shapes[f"{name}.mlp.gate.weight"] = (EXPERTS, D)
        inners = [f"experts.{number}." for number in range(EXPERTS)] if experts else [""]
        for inner in [*inners, *(f"shared_experts.{number}." for number in range(shared))]:
            shapes |= {
                f"{name}.mlp.{inner}gate_proj.weight": (INNER, D),
                f"{name}.mlp.{inner}up_proj.weight": (INNER, D),
                f"{name}.mlp.{inner}down_proj.weight": (D, INNER),
            }
    generator = torch.Generator().manual_seed(generation)
    noise = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    weights = {name: (1 + 0.3 * n if n.ndim == 1 else 0.2 * n).half() for name, n in noise.items()}
    return weights | {"lm_head.weight": weights["model.embed_tokens.weight"]}


def logits(
    weights: dict[str, Tensor], ids: list[int], generation: int, theta: float = 1e6, top: int = 0, heads: int = 8
) -> Tensor:
    """What MiniMind computes, (T, V), from its description: one sequence, one head and one expert at a time."""
    w = {name: weight.double() for name, weight in weights.items()}
    eps, (heads, groups, width) = (1e-5, (heads, heads // 4, D // heads)) if generation == 2 else (1e-6, (4, 2, 16))

    def norm(x: Tensor, name: str) -> Tensor:
        return x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt() * w[name]

    def turn(x: Tensor) -> Tensor:
        """As complex numbers: the first half of a head is the real part, the second the imaginary one."""
        angle = torch.arange(len(x))[:, None] * theta ** (-torch.arange(width // 2) * 2 / width).double()
        turned = torch.complex(x[:, : width // 2], x[:, width // 2 :]) * torch.polar(torch.ones_like(angle), angle)
        return torch.cat((turned.real, turned.imag), -1)

    def feed_forward(x: Tensor, name: str) -> Tensor:
        inner = F.silu(x @ w[f"{name}gate_proj.weight"].T) * (x @ w[f"{name}up_proj.weight"].T)
        return inner @ w[f"{name}down_proj.weight"].T

    x = w["model.embed_tokens.weight"][ids]
    future = torch.full((len(ids), len(ids)), -math.inf, dtype=torch.float64).triu(1)
    for layer in range(LAYERS):
        name = f"model.layers.{layer}"
        h = norm(x, f"{name}.input_layernorm.weight")
        parts = {}
        for part in "qkv":
            rows = w[f"{name}.self_attn.{part}_proj.weight"].split(width)
            parts[part] = [h @ matrix.T for matrix in rows]
            if part != "v":
                if generation == 3:
                    parts[part] = [norm(head, f"{name}.self_attn.{part}_norm.weight") for head in parts[part]]
                parts[part] = [turn(head) for head in parts[part]]
        made = []
        for head in range(heads):
            group = head // (heads // groups)
            scores = parts["q"][head] @ parts["k"][group].T / math.sqrt(width) + future
            made.append(scores.softmax(-1) @ parts["v"][group])
        x = x + torch.cat(made, -1) @ w[f"{name}.self_attn.o_proj.weight"].T
        h = norm(x, f"{name}.post_attention_layernorm.weight")
        if f"{name}.mlp.gate.weight" in w:
            # Generation 3 visits one expert, whose weight is p / p; 2 visits two, whose weights add up to 1.
            shared = sorted({key.split(".")[5] for key in w if key.startswith(f"{name}.mlp.shared_experts.")})
            made = []
            for row, chances in zip(h, (h @ w[f"{name}.mlp.gate.weight"].T).softmax(-1), strict=True):
                best = chances.argsort(descending=True)[: top or (1 if generation == 3 else 2)]
                visits = [
                    chances[e] / chances[best].sum() * feed_forward(row, f"{name}.mlp.experts.{e}.") for e in best
                ]
                visits += [feed_forward(row, f"{name}.mlp.shared_experts.{number}.") for number in shared]
                made.append(sum(visits))
            x = x + torch.stack(made)
        else:
            x = x + feed_forward(h, f"{name}.mlp.")
    return norm(x, "model.norm.weight") @ w["lm_head.weight"].T


@pytest.mark.parametrize(
    ("generation", "experts", "shared"),
    [(2, False, 0), (3, False, 0), (3, True, 0), (2, True, 1), (2, True, 2), (2, True, 0)],
)
def test_an_imported_file_computes_what_minimind_does(
    generation: int, experts: bool, shared: int, tokenizer_folder: Path, tmp_path: Path, capsys: Output
) -> None:
    weights = state_dict(generation, experts, shared)
    torch.save(weights, tmp_path / "full_sft_64.pth")
    command = ["import", str(tmp_path / "full_sft_64.pth"), str(tmp_path / "model")]
    assert cli.main([*command, "--tokenizer", str(tokenizer_folder)]) == 0
    assert "logits were not compared" in capsys.readouterr().out
    model = checkpoint.load(tmp_path / "model")
    assert model.config.tie_word_embeddings and model.config.max_position_embeddings == 32768
    ids = torch.randint(V, (40,), generator=torch.Generator().manual_seed(5)).tolist()
    batch = torch.tensor([ids])
    with torch.no_grad():
        ours = model.logits(model(batch, torch.ones_like(batch))[0])[0]
    torch.testing.assert_close(ours.double(), logits(weights, ids, generation), rtol=1e-4, atol=1e-4)
    lineage = files.read_manifest(tmp_path / "model")["lineage"]
    assert lineage["source"] == "full_sft_64.pth"
    assert lineage["inputs"]["full_sft_64.pth"] == files.sha256(tmp_path / "full_sft_64.pth")


TOLD: list[tuple[int, bool, list[str], dict[str, Any]]] = [
    (3, True, ["num_experts_per_tok=2"], {"top": 2}),
    (3, False, ["rope_theta=1e4"], {"theta": 1e4}),
    (2, True, ["num_experts_per_tok=3", "rope_theta=10000"], {"top": 3, "theta": 1e4}),
    (2, False, ["num_attention_heads=4"], {"heads": 4}),
]


@pytest.mark.parametrize("beside", ["", "x.json", "config.json"])
@pytest.mark.parametrize(("generation", "experts", "told", "changes"), TOLD)
def test_what_shapes_do_not_tell_can_be_said(
    generation: int, experts: bool, told: list[str], changes: dict[str, Any], beside: str, tokenizer_folder: Path,
    tmp_path: Path, capsys: Output,
) -> None:  # fmt: skip
    weights = state_dict(generation, experts)
    torch.save(weights, tmp_path / "x.pth")
    command = ["import", str(tmp_path / "x.pth"), str(tmp_path / "model"), "--tokenizer", str(tokenizer_folder)]
    if beside:
        said = {key: json.loads(value) for key, _, value in (option.partition("=") for option in told)}
        files.write_json(tmp_path / beside, {"hidden_size": D, "use_moe": experts, "dropout": 0.0, **said})
    else:
        command += [part for option in told for part in ("--set", option)]
    assert cli.main(command) == 0
    assumed = capsys.readouterr().out.partition("Assumed, since neither names nor shapes tell: ")[2]
    assert "rms_norm_eps 1e-0" in assumed and not any(option.partition("=")[0] in assumed for option in told)
    ids = torch.randint(V, (40,), generator=torch.Generator().manual_seed(5)).tolist()
    batch, model = torch.tensor([ids]), checkpoint.load(tmp_path / "model")
    with torch.no_grad():
        ours = model.logits(model(batch, torch.ones_like(batch))[0])[0].double()
    torch.testing.assert_close(ours, logits(weights, ids, generation, **changes), rtol=1e-4, atol=1e-4)
    assert (ours - logits(weights, ids, generation)).abs().max() > 0.1
    inputs = files.read_manifest(tmp_path / "model")["lineage"]["inputs"]
    assert (beside in inputs) == bool(beside)


@pytest.mark.parametrize(
    ("options", "config", "says"),
    [
        (["num_expert_per_tok=2"], None, "did you mean num_experts_per_tok?"),
        (["hidden_size=64"], None, "KEY is one of"),
        (["rope_theta"], None, "expected KEY=VALUE"),
        (["rope_theta=much"], None, "'much' is no number"),
        (["num_experts_per_tok=two"], None, "'two' is no number"),
        (["num_experts_per_tok=1.5"], None, "num_experts_per_tok"),
        (["num_experts_per_tok=9"], None, "exceeds model.num_experts 4"),
        (["num_attention_heads=8"], None, "says num_attention_heads 8, and the shapes in"),
        ([], {"hidden_size": 512}, "config.json says hidden_size 512, and the shapes in"),
        ([], {"num_experts": 8}, "config.json says num_experts 8, and the shapes in"),
        ([], {"hidden_act": "gelu"}, "config.json: hidden_act is 'gelu'"),
        ([], {"rope_scaling": {"type": "linear", "factor": 2}}, "scaled by 'linear'"),
        ([], [], "no JSON object"),
    ],
)
def test_what_is_said_wrongly_is_refused_by_name(
    options: list[str], config: Any, says: str, tokenizer_folder: Path, tmp_path: Path, capsys: Output
) -> None:
    torch.save(state_dict(3, True), tmp_path / "x.pth")
    if config is not None:
        files.write_json(tmp_path / "config.json", config)
    command = ["import", str(tmp_path / "x.pth"), str(tmp_path / "model"), "--tokenizer", str(tokenizer_folder)]
    assert cli.main([*command, *(part for option in options for part in ("--set", option))]) == 1
    assert says in capsys.readouterr().err and not (tmp_path / "model").exists()


def test_experts_are_not_set_where_there_are_none(tokenizer_folder: Path, tmp_path: Path, capsys: Output) -> None:
    torch.save(state_dict(2), tmp_path / "x.pth")
    command = ["import", str(tmp_path / "x.pth"), str(tmp_path / "model"), "--tokenizer", str(tokenizer_folder)]
    assert cli.main([*command, "--set", "num_experts_per_tok=2"]) == 1
    assert "has no experts" in capsys.readouterr().err
    assert cli.main([*command, "--set", "num_attention_heads=7"]) == 1
    assert "don't make 7 heads" in capsys.readouterr().err


CHECKOUT = """
from transformers import Qwen3Config, Qwen3ForCausalLM

class MiniMindConfig(Qwen3Config):
    def __init__(self, **values):
        theta = values.pop("rope_theta", 1e4)  # someone changed it here
        super().__init__(**values, rope_parameters={"rope_type": "default", "rope_theta": theta})
        self.rope_theta = theta

MiniMindForCausalLM = Qwen3ForCausalLM  # which computes the same
"""


def test_a_checkout_s_own_class_is_compared_with(tokenizer_folder: Path, tmp_path: Path, capsys: Output) -> None:
    (tmp_path / "checkout" / "model").mkdir(parents=True)
    (tmp_path / "checkout" / "model" / "model_minimind.py").write_text(CHECKOUT)
    torch.save(state_dict(3), tmp_path / "x.pth")
    command = ["import", str(tmp_path / "x.pth"), str(tmp_path / "model"), "--tokenizer", str(tokenizer_folder)]
    assert cli.main([*command, "--reference", str(tmp_path)]) == 1
    assert "is no checkout of MiniMind" in capsys.readouterr().err
    command += ["--reference", str(tmp_path / "checkout")]
    assert cli.main(command) == 1
    said = capsys.readouterr().err
    assert "compute different logits" in said and "it has rope_theta 10000.0" in said
    assert "--set rope_theta=10000.0" in said and not (tmp_path / "model").exists()
    assert cli.main([*command, "--set", "rope_theta=1e4"]) == 0
    assert "logits equal those of MiniMind's class" in capsys.readouterr().out


class Evil:
    """What must never be made of a file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("unpickled",))


@pytest.mark.parametrize(
    ("stored", "says"),
    [
        (state_dict(3) | {"model.layers.0.self_attn.q_proj.lora.A.weight": torch.zeros(8, D)}, "adapter"),
        (
            {name: w for name, w in state_dict(2, True, 1).items() if "1.mlp.shared_experts.0.up_proj" not in name},
            "no weight model.layers.1.mlp.shared_experts.up_proj",
        ),
        ({"tok_embeddings.weight": torch.zeros(8, 8)}, "before 2025-04-26"),
        ({"weight": torch.zeros(8, 8)}, "none of MiniMind's models"),
        ({"model": state_dict(3), "step": 7}, "more than weights"),
        (Evil(), "can be loaded safely"),
        (
            {name: w for name, w in state_dict(3).items() if "1.mlp.up_proj" not in name},
            "no weight model.layers.1.mlp.up",
        ),
    ],
)
def test_other_files_are_refused_by_what_they_are(
    stored: Any, says: str, tokenizer_folder: Path, tmp_path: Path, capsys: Output
) -> None:
    torch.save(stored, tmp_path / "x.pth")
    command = ["import", str(tmp_path / "x.pth"), str(tmp_path / "model"), "--tokenizer", str(tokenizer_folder)]
    assert cli.main(command) == 1
    said = capsys.readouterr()
    assert says in said.err and "unpickled" not in said.out
    assert not (tmp_path / "model").exists()


def test_a_file_wants_a_tokenizer(tmp_path: Path, capsys: Output) -> None:
    torch.save(state_dict(3), tmp_path / "x.pth")
    assert cli.main(["import", str(tmp_path / "x.pth"), str(tmp_path / "model")]) == 1
    assert "comes without a tokenizer" in capsys.readouterr().err
    assert cli.main(["import", str(tmp_path / "none.pth"), str(tmp_path / "model")]) == 1
    assert "there is no" in capsys.readouterr().err
