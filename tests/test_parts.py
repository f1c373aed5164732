"""A pipeline may lack data sets: what needs them is left out, the rest is trained, and the report says which."""

import json
import re
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from ruamel.yaml import YAML

from minimind import checkpoint, config, declarations, files, hardware, process
from minimind.chat import Chat

ROOT = Path(__file__).parents[1]
STAGES = declarations.stages((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
CHECKPOINTS = ("pretrain", "sft", "dpo", "distill", "control")
ATLAS = {"pretrain": 60, "sft": 40, "dpo": 20, "prompts": 8}


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The repository's code and no data, MLflow left out."""
    for name in ("minimind", "stages", "presets", "dvc.yaml"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in ("data/own", "data/base"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(process, "claim", lambda stage: None)
    monkeypatch.setattr(process, "lock", lambda path: path.parent.mkdir(parents=True, exist_ok=True))
    read = cache(lambda path, time: original(path))
    original = config.read
    monkeypatch.setattr(config, "read", lambda path: read(path, path.stat().st_mtime_ns))  # which takes longest
    monkeypatch.setattr(hardware, "setup", lambda runtime: (torch.device("cpu"), torch.float32))
    monkeypatch.setitem(sys.modules, "mlflow", None)
    return tmp_path


def params(data: dict[str, Any], **changes: Any) -> None:
    """smoke's, for these data sets and hardly any steps."""
    profile = config.read(ROOT / "profiles/smoke.yaml")
    profile["data"] = data
    profile["tokenizer"]["vocab_size"] = 320
    for name in ("pretrain", "sft", "dpo", "distill"):
        profile[name] |= {"steps": 2, "warmup_steps": 0, "log_every": 1, "validate_every": 1}
    for section, values in changes.items():
        profile[section] = profile[section] | values if isinstance(values, dict) else values
    with Path("params.yaml").open("w", encoding="utf-8") as stream:
        YAML().dump(profile, stream)


def atlas(*names: str) -> dict[str, Any]:
    return {name: [{"uri": f"atlas:{name}", "count": ATLAS[name], "seed": 1}] for name in names}


def fill(argument: str, values: dict[str, str]) -> str:
    """What DVC makes of `${item}` and `${section.preset}`."""
    return re.sub(r"\$\{(\w+)(\.preset)?\}", lambda found: values[found[1]], argument)


def run(*only: str) -> None:
    """The stages in order, as dvc.yaml calls them."""
    values = config.read(Path("params.yaml"))
    presets = {name: values[name]["preset"] for name in ("model", "student")}
    for name, stage in STAGES.items():
        if name in only or not only:
            arguments = declarations.arguments(stage)
            for item in CHECKPOINTS if name == "evaluate" else ("",):
                filled = {"item": item, **presets}
                places = [Path(fill(argument, filled)) for argument in arguments]
                import_module(f"stages.{name}").main(*places)


def weights(name: str) -> str:
    return files.sha256(Path(f"models/{name}/model.safetensors"))


def test_a_missing_data_set_is_a_pipeline_without_its_stages(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = ["pretrain", "dpo", "distill", "control"]
    params({**atlas("pretrain", "dpo", "prompts"), "benchmark": []})
    run()
    for name in CHECKPOINTS:
        curve = Path(f"metrics/curves/{name}.tsv").read_text(encoding="utf-8")
        assert (len(curve.splitlines()) == 3) == (name in trained), name
        assert (checkpoint.disabled(Path("models") / name) == "") == (name in trained), name
    parent = "pretrain"
    for name in ("sft", "dpo"):
        assert (weights(name) == weights(parent)) == (name not in trained), (
            "who has nothing to learn hands on its parent"
        )
        Chat(Path("models") / name)
        checkpoint.load(Path("models") / name)
        parent = name
    notes = Path("metrics/report.md").read_text(encoding="utf-8")
    assert "There is no benchmark, so there are no scores" in notes
    assert "sft was not trained in this run, so it has no scores: params.yaml has no data.sft." in notes
    assert "| pretrain | 2 |" in notes
    assert Path("metrics/report.html").stat().st_size > 0
    told = capsys.readouterr().out
    assert "sft: params.yaml has no data.sft, so the model stays as it is" in told


def test_a_base_may_be_tuned_without_documents(workspace: Path) -> None:
    params({**atlas("pretrain", "sft"), "benchmark": None})
    run("fetch", "clean", "tokenizer", "pack", "pretrain")
    Path("models/pretrain").rename("data/base/model")
    params(atlas("sft"), base=True)
    run("fetch", "clean", "tokenizer", "pack", "pretrain", "sft")
    assert weights("pretrain") == files.sha256(Path("data/base/model/model.safetensors")) != weights("sft")


def test_neither_documents_nor_a_base_are_named(workspace: Path) -> None:
    params(atlas("sft"))
    run("fetch", "clean", "tokenizer", "pack")
    with pytest.raises(Exception, match=r"params.yaml has no data.pretrain: add documents, or set base"):
        run("pretrain")


def test_one_document_is_packed_and_trained(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = json.dumps({"text": "The harbour was quiet, and the boats lay side by side in the harbour. " * 4})
    Path("data/own/a.jsonl").write_text(text + "\n", encoding="utf-8")
    params(
        {"pretrain": [{"uri": "file:data/own/a.jsonl"}]}, pack={"validation_share": 0.0001},
        tokenizer={"vocab_size": 320, "held_out_share": 0.0001},
    )  # fmt: skip
    run()
    assert "pretrain: no document is left to measure on. Raise pack.validation_share" in capsys.readouterr().err
    assert (
        Path("metrics/curves/pretrain.tsv").read_text(encoding="utf-8").splitlines()[0].startswith("step\ttokens\tloss")
    )
