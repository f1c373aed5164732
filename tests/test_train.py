"""The loop: learning, experts, compilation, refusals. What must not change a result is in test_exactness."""

import hashlib
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from toy.training import States

from minimind import files
from minimind.batches import Batches, Source
from minimind.config import Runtime
from minimind.engines.replicas import forward_function
from minimind.model import Decoder, ModelConfig
from minimind.objectives.language import Language, bits_per_byte
from minimind.rows import Rows, RowWriter
from minimind.train import TrainConfig, TrainingError, curve_text, train

MODEL = ModelConfig(32, 2, 4, 2, 48, qk_norm_init=1.6, vocab_size=64)
MIXTURE = replace(
    MODEL, use_moe=True, num_experts=4, num_experts_per_tok=2, num_shared_experts=1, moe_intermediate_size=16,
    router_aux_loss_coef=0.01, router_bias_rate=0.01,
)  # fmt: skip
CONFIG = TrainConfig(batch_size=8, steps=12, warmup_steps=2, log_every=2, validate_every=4, save_every=5)
RUNTIME = Runtime(device="cpu", dtype="float32", threads=1, compile="off")


class Silence:
    def log(self, step: int, metrics: dict[str, float]) -> None:
        assert step > 0
        assert all(isinstance(value, float) for value in metrics.values())


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rows:
    """Documents that count upwards, of uneven length and with uneven masks."""
    monkeypatch.chdir(tmp_path)
    generator = torch.Generator().manual_seed(0)
    with RowWriter(tmp_path / "train.arrow", 24, 64) as writer:
        for _ in range(40):
            start, length = (int(torch.randint(1, high, (1,), generator=generator)) for high in (30, 20))
            tokens = list(range(start, start + length + 2))
            learn = [0, *(int(x) for x in torch.randint(0, 2, (length + 1,), generator=generator))]
            writer.add([(tokens, learn, len(tokens))])
    files.write_manifest(tmp_path)
    return Rows.open(tmp_path, "train")


def run(
    rows: Rows,
    tmp_path: Path,
    states: States,
    config: TrainConfig = CONFIG,
    runtime: Runtime = RUNTIME,
    shape: ModelConfig = MODEL,
) -> Decoder:
    model = Decoder(shape).initialise(0)
    batches = Batches([Source(rows)], config.batch_size, 1)
    train(
        model, Language(), batches, config, validate=lambda model: {"number": float(model.num_parameters())},
        resume=states, run=Silence(), runtime=runtime, curve=tmp_path / "curve.tsv",  # type: ignore[arg-type]
    )  # fmt: skip
    return model


def digest(model: Decoder) -> str:
    return hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in model.parameters())).hexdigest()


def test_it_learns(rows: Rows, tmp_path: Path) -> None:
    batches = [Batches([Source(rows)], 40, 1).at(0)]
    before = bits_per_byte(Decoder(MODEL).initialise(0), batches, rows.target_bytes)
    after = bits_per_byte(run(rows, tmp_path, States(), replace(CONFIG, steps=60)), batches, rows.target_bytes)
    assert after < before / 2


def test_it_says_how_far_it_is_where_there_is_no_terminal(
    rows: Rows, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(rows, tmp_path, States())
    said = [line for line in capsys.readouterr().err.splitlines() if " of 12 steps" in line]
    assert re.fullmatch(r"curve: 12 of 12 steps \(100%\), loss \d\.\d{3}, [\d,]+ tokens/s, after \d+ s", said[-1])
    # The loss is the mean since the line of the curve before, which this is the end of.
    header, *_, last = (line.split("\t") for line in (tmp_path / "curve.tsv").read_text().splitlines())
    assert f"loss {float(last[header.index('loss')]):.3f}" in said[-1]


def test_an_interrupted_mixture_ends_with_the_same_bits_and_biases(rows: Rows, tmp_path: Path) -> None:
    config = replace(CONFIG, steps=11)  # each moves a bias up or down: after an odd number none is where it began
    whole = run(rows, tmp_path, States(), config, shape=MIXTURE)
    header, *lines = [line.split("\t") for line in (tmp_path / "curve.tsv").read_text().splitlines()]
    loads = [[float(line[header.index(f"load_1_{expert}")]) for expert in range(4)] for line in lines]
    assert all(sum(row) == pytest.approx(4, abs=1e-3) for row in loads)
    assert {"router_loss", "router_entropy", "load_0_0"} < set(header)
    states = States(stop_at=4)
    with pytest.raises(SystemExit):
        run(rows, tmp_path, states, config, shape=MIXTURE)
    continued = run(rows, tmp_path, states, config, shape=MIXTURE)
    assert digest(continued) == digest(whole)
    bias = "model.layers.1.mlp.gate.e_score_correction_bias"
    assert whole.state_dict()[bias].any() and torch.equal(whole.state_dict()[bias], continued.state_dict()[bias])


def test_dead_experts_are_named_at_validation(
    rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A router whose one score is above the others whatever it reads."""
    initialise = Decoder.initialise

    def lopsided(model: Decoder, seed: int) -> Decoder:
        initialise(model, seed)
        for layer in model.model.layers:
            layer.mlp.gate.e_score_correction_bias[:2] = 9.0  # type: ignore[union-attr, operator, index]
        return model

    monkeypatch.setattr(Decoder, "initialise", lopsided)
    shape = replace(MIXTURE, router_bias_rate=1e-6)
    config = replace(CONFIG, steps=2, validate_every=2)
    run(rows, tmp_path, States(), config, shape=shape)
    err = capsys.readouterr().err
    assert "curve: expert 2 of layer 0 is dead" in err and "expert 0 of layer" not in err


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_a_repeated_run_ends_with_the_same_bits(rows: Rows, tmp_path: Path, optimizer: Any) -> None:
    config = replace(CONFIG, optimizer=optimizer)
    first, second = (run(rows, tmp_path, States(), config) for _ in range(2))
    assert digest(first) == digest(second)


@pytest.mark.parametrize("shape", [MODEL, MIXTURE], ids=["dense", "moe"])
def test_compiled_and_eager_agree(shape: ModelConfig, rows: Rows) -> None:
    model = Decoder(shape).initialise(0)
    batch = Batches([Source(rows)], 8, 1).at(0)
    losses = {}
    for mode in ("on", "off"):
        forward = forward_function(model, Language(), replace(RUNTIME, compile=mode), 1)  # type: ignore[arg-type]
        model.zero_grad()
        loss, _ = forward(batch)
        loss.backward()
        losses[mode] = (loss.detach(), [p.grad.clone() for p in model.parameters() if p.grad is not None])
    torch.testing.assert_close(losses["on"][0], losses["off"][0])
    for compiled, eager in zip(losses["on"][1], losses["off"][1], strict=True):
        torch.testing.assert_close(compiled, eager, atol=1e-4, rtol=1e-4)


def test_compiled_gradients_are_the_same_bits_each_time() -> None:
    """In a process of its own with two threads, whose order of arrival must not matter; tokens repeat a lot."""
    code = """
import torch
from minimind import config, hardware, model
from minimind.engines.replicas import forward_function
from minimind.objectives.language import Language
runtime = config.Runtime(device="cpu", dtype="float32", threads=2, compile="on")
hardware.setup(runtime)
decoder = model.Decoder(model.ModelConfig(64, 1, 2, 2, 64, vocab_size=300)).initialise(0)
ids = torch.randint(0, 300, (16, 128), generator=torch.Generator().manual_seed(0)) // 30
batch = {"ids": ids, "targets": ids.roll(-1, 1), "documents": torch.ones_like(ids)}
forward = forward_function(decoder, Language(), runtime, 1)
seen = set()
for _ in range(8):
    decoder.zero_grad()
    forward(batch)[0].backward()
    seen.add(b"".join(parameter.grad.numpy().tobytes() for parameter in decoder.parameters()))
assert len(seen) == 1, f"{len(seen)} different gradients"
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_rows_longer_than_the_model_are_refused(rows: Rows, tmp_path: Path) -> None:
    model = Decoder(replace(MODEL, max_position_embeddings=16))
    batches = Batches([Source(rows)], 8, 1)
    with pytest.raises(TrainingError, match=r"24 tokens .*16 positions"):
        train(
            model, Language(), batches, CONFIG, validate=lambda model: {}, resume=States(), run=Silence(),
            runtime=RUNTIME, curve=tmp_path / "curve.tsv",  # type: ignore[arg-type]
        )  # fmt: skip


def test_language_loss_is_cross_entropy_over_the_targets(rows: Rows) -> None:
    model = Decoder(MODEL).initialise(0)
    batch = Batches([Source(rows)], 8, 1).at(0)
    loss, _ = Language()(model, batch)
    logits = model.logits(model(batch["ids"], batch["documents"])[0]).double().log_softmax(-1)
    places = (batch["targets"] >= 0).nonzero().tolist()
    expected = -sum(logits[b, t, batch["targets"][b, t]] for b, t in places)
    assert Language().weight(batch) == len(places)
    torch.testing.assert_close(loss.double(), torch.as_tensor(expected), rtol=1e-5, atol=1e-5)


def test_a_curve_is_a_table_with_gaps() -> None:
    text = curve_text([{"step": 1, "loss": 2.0}, {"step": 12345678, "loss": 1.5, "validation_number": 3.25}])
    assert text == "step\tloss\tvalidation_number\n1\t2\t\n12345678\t1.5\t3.25\n"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"steps": -1}, "steps is -1"),
        ({"epochs": 1.0}, "steps or epochs"),
        ({"batch_size": 0}, "batch_size"),
        ({"validate_every": 5}, "multiple of log_every"),
        ({"grad_clip": 0.0}, "grad_clip"),
        ({"warmup_steps": -1}, "warmup_steps"),
        ({"warmup_steps": 1.0}, "a share of them below 1"),
        ({"decay_share": 1.5}, "decay_share"),
    ],
)
def test_impossible_settings_are_refused_by_name(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        replace(CONFIG, **change)
