"""Every profile fits the code, whatever a user has made of params.yaml."""

import csv
import io
import json
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import fields, is_dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import torch
from dvc.utils.hydra import apply_overrides
from ruamel.yaml import YAML

from minimind import config, declarations, files, memory, optim
from minimind.atlas import world
from minimind.batches import Batches, Source
from minimind.config import Runtime
from minimind.model import Decoder
from minimind.objectives.language import Language
from minimind.rows import Rows, RowWriter
from minimind.schedule import factor
from minimind.sources import collection
from minimind.train import TrainConfig, train

ROOT = Path(__file__).parents[1]
PROFILES = sorted(ROOT.glob("profiles/*.yaml"))
PARAMS = {
    name: params
    for name in declarations.stages((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    if (params := getattr(import_module(f"stages.{name}"), "Params", None))
}


PRESETS = {"pretrain": "model", "distill": "student"}  # stage → its section that names a preset


def preset(stage: str, path: Path) -> Path | None:
    """The file that the stage is given on its command line."""
    return config.preset(PRESETS[stage], path) if stage in PRESETS else None


def committed(path: str) -> str | None:
    """A file as of git's HEAD; None in a repository without commits, or outside of one."""
    result = subprocess.run(["git", "show", f"HEAD:{path}"], cwd=ROOT, capture_output=True, check=False)
    return result.stdout.decode() if result.returncode == 0 else None


def keys(value: Any, prefix: str = "") -> set[str]:
    """Dotted names of all keys, without those of sources, which differ by kind."""
    if not isinstance(value, dict):
        return {prefix}
    return set().union(*(keys(item, f"{prefix}.{name}") for name, item in value.items()))


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_every_stage_can_read_the_profile(path: Path) -> None:
    for stage, params in PARAMS.items():
        config.load(params, path, preset(stage, path))
    config.runtime(path)
    for name, entries in config.read(path)["data"].items():
        for number, entry in enumerate(entries):
            collection.parse(entry, f"data.{name}[{number}]", path)


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_the_profile_has_every_key_that_there_is_and_no_other(path: Path) -> None:
    """A default in the code may stand in for a key, but then nobody finds the knob."""
    assert keys(config.read(path)) == keys(config.read(ROOT / "profiles/atlas.yaml"))
    sections = {name for params in PARAMS.values() for name in get_type_hints(params)} | {"runtime"}
    assert set(config.read(path)) == sections
    for params in PARAMS.values():
        for section, hint in get_type_hints(params).items():
            if is_dataclass(hint):
                missing = {field.name for field in fields(hint)} - set(config.read(path)[section])
                # How large the vocabulary is, the tokenizer decides.
                assert missing == ({"vocab_size"} if section in PRESETS.values() else set()), section


def test_the_template_explains_every_option_of_every_source() -> None:
    text = (ROOT / "profiles/custom.yaml").read_text(encoding="utf-8").partition("\nseed:")[0]
    options = {field.name for kind in collection.KINDS.values() for field in fields(kind)}
    assert {name for name in options if f" {name}:" not in text} == set()


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_dvc_changes_one_value_and_no_comment(path: Path, tmp_path: Path) -> None:
    """`dvc exp run --set-param` writes params.yaml anew, in its own layout; comments inside lists would be lost."""
    copy = tmp_path / "params.yaml"
    shutil.copy(path, copy)
    apply_overrides(str(copy), ["seed=9"])
    old, new = (file.read_text(encoding="utf-8").split("\n") for file in (path, copy))
    assert [line for line in new if line] == [re.sub(r"^seed: \d+", "seed: 9", line) for line in old if line]


def test_the_committed_params_are_the_atlas() -> None:
    """In git's HEAD, so that it holds too while somebody tries other values."""
    assert committed("params.yaml") == committed("profiles/atlas.yaml")


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_a_training_step_of_the_full_size_is_well_formed(path: Path) -> None:
    """Every shape of forward pass, gradients and optimizer at the profile's own sizes, without storage or numbers."""
    params = config.load(PARAMS["pretrain"], path, preset("pretrain", path))
    row_length = config.read(path)["pack"]["max_seq_len"]
    assert row_length <= params.model.max_position_embeddings
    model = Decoder(params.model.with_vocabulary(config.read(path)["tokenizer"]["vocab_size"])).to("meta")
    rows = config.runtime(path).micro_batch_size or params.pretrain.batch_size
    ids = torch.zeros(rows, row_length, dtype=torch.int64, device="meta")
    loss, _ = Language()(model, {"ids": ids, "targets": ids, "documents": ids})
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    recipe: TrainConfig = params.pretrain
    optim.build(
        model, recipe.optimizer, recipe.learning_rate, recipe.matrix_learning_rate, recipe.betas, recipe.momentum,
        recipe.weight_decay,
    )  # fmt: skip
    assert 0 < factor(0, 1000, recipe.schedule, recipe.warmup_steps, recipe.decay_share, 0.0) <= 1


@pytest.mark.parametrize("path", [path for path in PROFILES if path.stem.startswith("minimind")], ids=lambda p: p.stem)
def test_a_step_of_the_family_fits_a_gpu_of_24_gb(path: Path) -> None:
    """By `memory.training_bytes`, for which a pair of DPO counts as two rows."""
    params = config.load(PARAMS["pretrain"], path, preset("pretrain", path))
    values, runtime = config.read(path), config.runtime(path)
    with torch.device("meta"):
        model = Decoder(params.model.with_vocabulary(values["tokenizer"]["vocab_size"]), torch.bfloat16)
    for stage, rows_per_unit in {"pretrain": 1, "sft": 1, "dpo": 2, "distill": 1}.items():
        rows = runtime.rows_at_once(values[stage]["batch_size"]) * rows_per_unit
        tokens = rows * values["pack"]["max_seq_len"]
        assert memory.training_bytes(model, tokens, runtime.checkpoint_activations) < 0.9 * 24e9, stage


class Forgetful:
    """Stands where `resume.Resume` does, and where a run does: keeps nothing."""

    folder, stop_requested = Path(), False

    def save(self, step: int, state: dict[str, Any]) -> None: ...

    def load(self) -> None: ...

    def wait(self) -> None: ...

    def log(self, step: int, metrics: dict[str, float]) -> None: ...


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_the_first_step_of_a_shrunken_model_is_taken(path: Path, tmp_path: Path) -> None:
    """The profile's architecture and recipe on toy rows; shrunk are width, depth, vocabulary, row length and batch."""
    with RowWriter(tmp_path / "train.arrow", 32, 64) as writer:
        for start in range(8):
            tokens = [start + number % 50 for number in range(30)]
            writer.add([(tokens, [0] + [1] * 29, 30)])
    files.write_manifest(tmp_path)
    take_a_step(path, Rows.open(tmp_path, "train"), tmp_path / "curve.tsv")


def take_a_step(path: Path, rows: Rows, curve: Path) -> None:
    """One optimizer step of the profile's pretraining, shrunk to the rows; every weight must move."""
    params = config.load(PARAMS["pretrain"], path, preset("pretrain", path))
    tiny = replace(
        params.model, hidden_size=64, num_hidden_layers=2, intermediate_size=96, head_dim=None,
        moe_intermediate_size=None, max_position_embeddings=rows.row_length, vocab_size=rows.vocab_size,
        num_attention_heads=4, num_key_value_heads=2,
    )  # fmt: skip
    model = Decoder(tiny).initialise(0)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    recipe = replace(params.pretrain, batch_size=4, steps=1, epochs=0.0, warmup_steps=0)
    train(
        model, Language(), Batches([Source(rows)], 4, 1), recipe, validate=lambda model: {},
        resume=Forgetful(), run=Forgetful(),  # type: ignore[arg-type]
        runtime=Runtime(device="cpu", dtype="float32", compile="off"), curve=curve,
    )  # fmt: skip
    # Eight short rows may leave an expert without a visit.
    still = {name for name, parameter in model.named_parameters() if torch.equal(before[name], parameter)}
    assert {name for name in still if ".experts." not in name} == set()


def minimind_files() -> dict[str, bytes]:
    """Small files with the names and schemas of MiniMind's three eras, extra keys among them."""

    def lines(records: Iterable[dict[str, Any]]) -> bytes:
        return b"".join(json.dumps(record, ensure_ascii=False).encode() + b"\n" for record in records)

    def table(rows: Iterable[dict[str, Any]]) -> bytes:
        rows, text = list(rows), io.StringIO()
        writer = csv.DictWriter(text, rows[0])
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue().encode()

    texts = [{"text": record["text"]} for record in world.generate("pretrain", 300, 1)]
    chats = list(world.generate("sft", 150, 2))
    tools = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}]
    called = [
        {"role": "system", "content": "You may use tools.", "tools": json.dumps(tools)},
        {"role": "user", "content": "What is 12 + 30?"},
        {"role": "assistant", "content": "", "reasoning_content": "12 + 30: let a tool add it.",
         "tool_calls": json.dumps([{"name": "add", "arguments": {"a": 12, "b": 30}}])},
        {"role": "tool", "content": "42"},
        {"role": "assistant", "content": "It is 42."},
    ]  # fmt: skip
    special = {"conversations": called, "source": "made up"}
    chats.append(special)
    pairs = list(world.generate("dpo", 60, 3))
    asked = [{"conversations": chat["conversations"], "gt": ["42"]} for chat in chats[:40]]
    singles = [chat["conversations"][-2:] for chat in chats if chat["conversations"][-2]["role"] == "user"]
    turns = [{"history": [["Hello.", "Hello!"]] if number % 2 else [], "q": q["content"], "a": a["content"]}
             for number, (q, a) in enumerate(singles)]  # fmt: skip
    marked = [
        {"text": " ".join(f"<|im_start|>{r['text']}<|im_end|>" for r in pair)}
        for pair in zip(texts[::2], texts[1::2], strict=True)
    ]
    pretrain = dict.fromkeys(("pretrain_t2t", "pretrain_t2t_mini"), lines(texts)) | {"pretrain_hq": lines(marked)}
    sft = ("sft_t2t", "sft_t2t_mini", "sft_mini_512", "sft_512", "sft_1024", "r1_mix_1024")
    talks = {name: lines([*world.generate("sft", 150, seed), special]) for seed, name in enumerate(sft, 2)}
    made = {**pretrain, **talks, "dpo": lines(pairs), "rlaif": lines(asked)}
    return {f"jingyaogong/minimind_dataset/{name}.jsonl": content for name, content in made.items()} | {
        "data/own/pretrain_data.csv": table(texts), "data/own/sft_data_multi.csv": table(turns),
        "data/own/documents/a.jsonl": lines(texts), "data/own/conversations/a.jsonl": lines(chats),
        "data/own/pairs/a.jsonl": lines(pairs), "data/own/prompts/a.jsonl": lines(asked),
    }  # fmt: skip


FETCHED = [path for path in PROFILES if path.stem.startswith("minimind") or path.stem == "custom"]


@pytest.mark.parametrize("path", FETCHED, ids=lambda path: path.stem)
def test_from_the_hub_to_a_first_step(
    path: Path, upstream: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stages up to the packed rows, as dvc.yaml calls them, on what a server offers under MiniMind's names.

    And on files of one's own.
    """
    upstream.files = minimind_files()
    monkeypatch.chdir(tmp_path)
    for name in upstream.files:
        if name.startswith("data/own/"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(upstream.files[name])
    profile = config.read(path)
    for item in profile["data"]["benchmark"]:
        item["count"] = 24
    profile["tokenizer"] |= {"vocab_size": 600, "max_bytes": 100_000, "held_out_share": 0.1}
    profile["pack"] |= {"max_seq_len": 320, "validation_share": 0.1}
    profile["runtime"]["workers"] = 1
    with Path("params.yaml").open("w") as stream:
        YAML().dump(profile, stream)
    stages = declarations.stages((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    for name in ("fetch", "clean", "tokenizer", "pack"):
        if name in stages:
            import_module(f"stages.{name}").main(*map(Path, declarations.arguments(stages[name])))
    assert "<|im_" not in "".join(file.read_text("utf-8") for file in Path("data/clean/pretrain").glob("*.jsonl"))
    for data_set in ("pretrain", "sft", "dpo"):
        assert len(Rows.open(Path("data/packed") / data_set, "train")) >= 4
        raw = files.verify_manifest(Path("data/raw") / data_set)["files"]
        assert len(raw) == len(profile["data"][data_set])
        assert all(entry["lines"] > 30 for entry in raw.values())
    monkeypatch.chdir(ROOT)
    take_a_step(path, Rows.open(tmp_path / "data/packed/pretrain", "train"), tmp_path / "curve.tsv")
