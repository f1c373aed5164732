"""Low-rank adaptation against peft; what is trained, what stays, and what a checkpoint of it holds."""

from dataclasses import replace
from pathlib import Path

import peft
import pytest
import torch
import torch.nn.functional as F
import transformers
from toy.training import MODEL, Case, assert_close, ended, run_here, run_there

from minimind import checkpoint, lora, optim
from minimind.errors import UserError
from minimind.lora import LoraConfig, TuneConfig
from minimind.losses import IGNORE
from minimind.model import Decoder
from minimind.objectives.language import Language
from minimind.train import TrainConfig

CONFIG = LoraConfig(rank=4, alpha=6.0, targets="q_proj v_proj gate_proj down_proj")
IDS = torch.randint(300, (2, 40), generator=torch.Generator().manual_seed(3))
TARGETS = F.pad(IDS[:, 1:], (0, 1), value=IGNORE)
BATCH = {"ids": IDS, "targets": TARGETS, "documents": torch.ones_like(IDS)}


def adapted(parent: Path) -> Decoder:
    """The parent with thin matrices that are not zero any more."""
    model = lora.attach(checkpoint.load(parent), CONFIG, seed=1)
    generator = torch.Generator().manual_seed(2)
    for name, parameter in model.named_parameters():
        if name.endswith(".B"):
            parameter.data.normal_(0, 0.1, generator=generator)
    return model


def test_it_begins_with_the_model_as_it_is(checkpoints: dict[str, Path]) -> None:
    plain = checkpoint.load(checkpoints["qwen3"])
    model = lora.attach(checkpoint.load(checkpoints["qwen3"]), CONFIG, seed=1)
    documents = torch.ones_like(IDS)
    assert torch.equal(model(IDS, documents)[0], plain(IDS, documents)[0])
    assert (
        lora.attach(plain, LoraConfig(), seed=1) is plain
        and lora.merge(plain, LoraConfig(), Path("models/base")) is None
    )


@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_peft_computes_the_same_logits_and_gradients(
    name: str, checkpoints: dict[str, Path], tokenizer_folder: Path, tmp_path: Path
) -> None:
    parent = checkpoints[name]
    model = adapted(parent)
    Language()(model, BATCH)[0].backward()
    ours = {
        place.removesuffix(".parametrizations.weight.0"): (module.A.grad, module.B.grad)
        for place, module in model.named_modules()
        if isinstance(module, lora.Update)
    }
    assert len(ours) == 2 * 4 and all(p.grad is None for p in model.parameters() if not p.requires_grad)

    checkpoint.save(tmp_path / "tuned", model, tokenizer_folder, {}, more=lora.merge(model, CONFIG, parent))
    base = transformers.AutoModelForCausalLM.from_pretrained(parent)
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / "tuned" / "adapter", is_trainable=True)
    logits = theirs(IDS).logits
    named = peft.AutoPeftModelForCausalLM.from_pretrained(tmp_path / "tuned" / "adapter")  # it names its base
    torch.testing.assert_close(named(IDS).logits, logits)
    # The tuned checkpoint is an ordinary one, and the adapter is not applied to it once more.
    tuned = checkpoint.load(tmp_path / "tuned")
    torch.testing.assert_close(tuned.logits(tuned(IDS, BATCH["documents"])[0]), logits, rtol=1e-4, atol=1e-4)
    alone = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "tuned")
    torch.testing.assert_close(alone(IDS).logits, logits, rtol=1e-4, atol=1e-4)

    F.cross_entropy(logits.flatten(0, 1), BATCH["targets"].flatten(), ignore_index=IGNORE, reduction="sum").backward()
    for place, gradients in ours.items():
        matrix = theirs.get_submodule(f"base_model.model.{place}")
        for mine, other in zip(gradients, (matrix.lora_A, matrix.lora_B), strict=True):
            expected = other["default"].weight.grad
            assert (mine - expected).norm() < 1e-4 * expected.norm(), place


def test_only_the_thin_matrices_are_trained(tmp_path: Path) -> None:
    before = run_here(Case("nothing", config={"steps": 1, "learning_rate": 1e-12}, lora_rank=2), tmp_path)
    after = run_here(Case("trained", lora_rank=2), tmp_path)
    moved = {name for name, value in after.weights.items() if not torch.equal(value, before.weights[name])}
    assert moved and all(".parametrizations.weight.0." in name for name in moved)
    assert {name.rpartition(".")[2] for name in moved} == {"A", "B"}
    model = lora.attach(Decoder(MODEL), CONFIG, 1)
    (adamw,) = optim.build(model, "adamw", 1e-3, 1e-3, (0.9, 0.95), 0.95, 0.1)
    trained = sum(p.numel() for group in adamw.param_groups for p in group["params"])
    assert trained == sum(p.numel() for p in model.parameters() if p.requires_grad) < model.num_parameters() / 3


def test_interrupted_or_in_two_processes_it_ends_the_same(tmp_path: Path) -> None:
    whole = run_here(Case("whole", lora_rank=2), tmp_path)
    run_here(Case("stopped", lora_rank=2, stop_at=3), tmp_path)
    assert run_here(Case("continued", lora_rank=2, start="stopped"), tmp_path).digest == whole.digest
    run_there(tmp_path, [Case("two", lora_rank=2), Case("two, continued", lora_rank=2, start="stopped")])
    for name in ("two", "two, continued"):
        assert_close(ended(tmp_path, name), whole)


@pytest.mark.parametrize(
    "runtime", [{"compile": "on"}, {"checkpoint_activations": True}, {"dtype": "bfloat16", "kernels": "auto"}]
)
def test_every_way_of_training_knows_it(tmp_path: Path, runtime: dict[str, object]) -> None:
    plain = run_here(Case("plain", lora_rank=2), tmp_path)
    other = run_here(Case("other", lora_rank=2, runtime=runtime), tmp_path)
    if "dtype" not in runtime:
        assert_close(other, plain)
    for name in plain.weights:
        if name.endswith(".B"):
            assert (other.weights[name] - plain.weights[name]).norm() < 0.2 * plain.weights[name].norm(), name


def test_experts_are_adapted_too(tmp_path: Path) -> None:
    result = run_here(Case("experts", experts=True, lora_rank=2), tmp_path)
    moved = [value.any() for name, value in result.weights.items() if ".experts." in name and name.endswith(".B")]
    assert len(moved) == 2 * 3 * 3 and all(moved)
    lora.Adapter(
        CONFIG, {"model.layers.0.mlp.experts.0.up_proj": (torch.ones(1), torch.ones(1))}, "models/pretrain"
    ).write(tmp_path)
    assert not (tmp_path / "adapter").exists(), "peft would find no such matrix"


@pytest.mark.parametrize(
    ("change", "named"),
    [({"rank": -1}, "rank is -1"), ({"alpha": 0.0}, "alpha is 0"), ({"targets": "q_proj gate"}, "names gate"),
     ({"targets": " "}, "targets is empty")],
)  # fmt: skip
def test_impossible_settings_are_refused_by_name(change: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        replace(CONFIG, **change)  # type: ignore[arg-type]


def test_what_it_cannot_go_with_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="optimizer is muon"):
        TuneConfig(batch_size=8, lora=CONFIG)
    assert isinstance(TuneConfig(batch_size=8, optimizer="adamw", lora=CONFIG), TrainConfig)
    with pytest.raises(UserError, match="deepspeed can't"):
        run_here(Case("zero", runtime={"strategy": "deepspeed"}, lora_rank=2), tmp_path)
