"""Steps of training on this machine: as many as were asked for, of fitting sizes, and never compiled."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from minimind import config, optim, probe
from minimind.config import ConfigError
from minimind.machine import STAGES, Abilities, Begun, Peak, Shape, Step
from minimind.model import Decoder, ModelConfig

ROOT = Path(__file__).parents[1]
MODEL = ModelConfig(32, 2, 4, 2, 48, vocab_size=64)


@pytest.fixture
def smoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """params.yaml of the profile `smoke`, which asks for compilation; nobody may compile."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the probe compiles")

    monkeypatch.setattr(torch, "compile", refuse)
    path = tmp_path / "params.yaml"
    text = (ROOT / "profiles" / "smoke.yaml").read_text(encoding="utf-8")
    assert "\n  compile: " in text
    path.write_text(text.replace("\n  compile: auto", "\n  compile: on"), encoding="utf-8")
    return path


def test_it_tells_what_happens_in_order(smoke: Path) -> None:
    events = list(probe.examine(smoke, 600.0, 3, 0.01))
    assert isinstance(events[0], Abilities) and isinstance(events[-1], Peak)
    assert events[0].compiles == "on" and not events[0].kernels and "runtime.compile is on" in events[0].why
    assert events[-1].flops_per_second > 0
    params = config.read(smoke)
    for section in ("model", "student"):
        kinds = [type(event) for event in events if getattr(event, "section", "") == section]
        assert kinds == [Shape, *3 * (Begun, Step)]
        (shape,) = (event for event in events if isinstance(event, Shape) and event.section == section)
        sizes = [event.tokens for event in events if isinstance(event, Step) and event.section == section]
        # A row of 256 first; with so much time, then a whole batch.
        assert sizes == [256, shape.tokens, shape.tokens] and shape.tokens == 4 * params["pack"]["max_seq_len"]
    assert {section for section in params if section in STAGES} == STAGES.keys()


def test_without_time_one_step_is_made(smoke: Path) -> None:
    steps = [event for event in probe.examine(smoke, 0.0, 3, 0.0) if isinstance(event, Step)]
    assert [step.section for step in steps] == ["model", "student"]
    assert all(step.tokens == 256 for step in steps), "and it is small"


@pytest.mark.parametrize("name", ["muon", "adamw"])
def test_steps_train_the_model(name: optim.OptimizerName) -> None:
    model = Decoder(MODEL).initialise(0)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    shape = Shape("model", 1, 1, 0, 100, name)
    (step,) = (event for event in probe.steps(shape, model, 64, 1, 9.0) if isinstance(event, Step))
    assert step.tokens == 64 and step.passes > 0 and step.update > 0
    assert any(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


def test_made_up_rows_are_whole_and_hold_documents() -> None:
    batch = probe.rows(1000, 300, 50)
    assert batch["ids"].shape == batch["targets"].shape == batch["documents"].shape == (3, 300)
    assert int(batch["ids"].max()) < 50 and int(batch["documents"].min()) == 1 and int(batch["documents"].max()) == 3
    assert probe.rows(100, 300, 50)["ids"].shape == (1, 100)


def test_a_broken_section_is_named_before_anything_is_measured(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    shutil.copyfile(ROOT / "profiles" / "smoke.yaml", path)
    path.write_text(path.read_text(encoding="utf-8").replace("  hidden_size:", "  hiden_size: 64", 1), encoding="utf-8")
    with pytest.raises(ConfigError, match="did you mean `hidden_size`"):
        next(probe.examine(path, 1.0, 1, 0.0))
