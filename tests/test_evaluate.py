"""The stage as DVC runs it: files in, files out, the same every time."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from minimind import checkpoint, files, process, report, tracking
from minimind.atlas import world
from minimind.benchmark import BenchmarkError
from minimind.chat import Chat
from minimind.families import FAMILIES
from minimind.model import Decoder, ModelConfig
from stages import evaluate

PARAMS = """
seed: 3
evaluate: {split: dev, max_new_tokens: 12}
pack: {max_seq_len: 64, validation_share: 0.5, max_quarantine_share: 0, thinking_off_share: 0.5}
runtime: {device: cpu, dtype: float32, threads: 1, micro_batch_size: 0, compile: "off", workers: 1,
          evaluation_batch_size: 16}
"""
PRETRAIN, SFT = "pretrain", "sft"  # of the atlas
CLEAN = (Path("clean/pretrain"), Path("clean/sft"))
Records = list[tuple[str, Any]]


class Silent:
    """An MLflow run that only remembers what it is told."""

    def __init__(self, told: Records):
        self.told = told

    def __enter__(self) -> "Silent":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def artifact(self, path: Path) -> None:
        self.told.append(("artifact", path.read_bytes()))

    def checkpoint(self, folder: Path, metrics: dict[str, float]) -> None:
        self.told.append(("checkpoint", metrics))


@pytest.fixture
def told(tmp_path: Path, tokenizer_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Records:
    """A workspace with params, a random checkpoint and the atlas's benchmark; what MLflow is told."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(PARAMS)
    vocab_size = Chat(tokenizer_folder).tokenizer.get_vocab_size()
    config = ModelConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, intermediate_size=32
    )
    model = Decoder(replace(config, vocab_size=vocab_size)).initialise(0)
    checkpoint.save(Path("models/sft"), model, tokenizer_folder, {})
    benchmark = Path("benchmark")
    benchmark.mkdir()
    lines = [json.dumps(item, ensure_ascii=False) + "\n" for item in world.generate("dev", 24, 1)]
    (benchmark / "dev.jsonl").write_text("".join(lines))
    files.write_manifest(benchmark)
    for name, data_set in {"pretrain": PRETRAIN, "sft": SFT}.items():
        Path("clean", name).mkdir(parents=True)
        lines = [orjson.dumps(record) + b"\n" for record in world.generate(data_set, 60, 2)]
        Path("clean", name, f"0-{name}.jsonl").write_bytes(b"".join(lines))
        files.write_manifest(Path("clean", name))
    told: Records = []

    def start(stage: str, params: object, *, inputs: dict[str, str]) -> Silent:
        told.append((stage, sorted(inputs)))
        return Silent(told)

    monkeypatch.setattr(tracking, "start", start)
    monkeypatch.setattr(process, "claim", lambda stage: None)
    return told


def outputs(name: str) -> tuple[Path, Path]:
    return Path(f"metrics/{name}.json"), Path(f"metrics/{name}.items.jsonl")


OF_ATLAS = {"pretrain": ["en", "other", "zh"], "sft": ["en", "zh"]}  # rows of syllables to copy are in no language


def test_scores_are_complete_repeatable_and_told(told: Records) -> None:
    for name in ("first", "second"):
        evaluate.main(Path("models/sft"), Path("benchmark"), *CLEAN, *outputs(name))
    (scores, items), again = outputs("first"), outputs("second")
    assert scores.read_bytes() == again[0].read_bytes()
    assert items.read_bytes() == again[1].read_bytes()
    document = files.read_json(scores)
    assert (document["checkpoint"], document["split"]) == ("sft", "dev")
    assert list(document["families"]) == list(FAMILIES)[:14]  # those of the atlas
    assert [values["n"] for values in document["families"].values()] == [2] * 12 + [4, 2]
    assert report.read_evaluation(scores).split == "dev"  # which compares scores with items
    metrics = {f"dev/{family}": values["score"] for family, values in document["families"].items()}
    for name in ("pretrain", "sft"):
        (languages,) = document["held_out"][name].values()
        metrics |= {f"held_out/{name}/0-{name}/{it}": languages[it]["bits_per_byte"] for it in languages}
        assert list(languages) == OF_ATLAS[name]
    assert len(metrics) == 14 + 5
    model = checkpoint.load(Path("models/sft"))
    assert document["parameters"] == model.num_parameters()
    assert document["digest"] == checkpoint.digest(Path("models/sft"))
    assert told[:3] == [
        ("evaluate@sft", ["data", "parent"]), ("artifact", items.read_bytes()), ("checkpoint", metrics),
    ]  # fmt: skip


def test_the_seed_matters_to_samples_only(told: Records, edit: Callable[[str, str], None]) -> None:
    evaluate.main(Path("models/sft"), Path("benchmark"), *CLEAN, *outputs("first"))
    edit("seed: 3", "seed: 4")
    evaluate.main(Path("models/sft"), Path("benchmark"), *CLEAN, *outputs("second"))
    first, second = (files.read_jsonl(outputs(name)[1]) for name in ("first", "second"))
    different = {one["family"] for one, other in zip(first, second, strict=True) if one != other}
    assert different == {"clean"}


def test_a_control_that_was_not_trained_has_no_scores(told: Records) -> None:
    files.write_json(Path("models/control/disabled.json"), {"reason": "distill.control is false"})
    evaluate.main(Path("models/control"), Path("benchmark"), *CLEAN, *outputs("control"))
    assert files.read_json(outputs("control")[0]) == {
        "checkpoint": "control", "split": "dev", "families": {}, "held_out": {},
        "reason": "distill.control is false",
    }  # fmt: skip
    assert outputs("control")[1].read_text() == ""
    assert told == []


def test_without_a_benchmark_there_are_held_out_figures(told: Records) -> None:
    Path("benchmark/dev.jsonl").unlink()
    files.write_manifest(Path("benchmark"))
    evaluate.main(Path("models/sft"), Path("benchmark"), *CLEAN, *outputs("first"))
    document = files.read_json(outputs("first")[0])
    assert document["families"] == {} and set(document["held_out"]) == {"pretrain", "sft"}


def test_an_unknown_split_is_named(told: Records, edit: Callable[[str, str], None]) -> None:
    edit("split: dev", "split: exam")
    with pytest.raises(BenchmarkError, match=r"exam.jsonl is missing: set evaluate.split .*\(dev\)"):
        evaluate.main(Path("models/sft"), Path("benchmark"), *CLEAN, *outputs("first"))


@pytest.fixture
def edit() -> Callable[[str, str], None]:
    def change(old: str, new: str) -> None:
        text = Path("params.yaml").read_text()
        assert old in text
        Path("params.yaml").write_text(text.replace(old, new))

    return change
