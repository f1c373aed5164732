"""What is checked before the first stage: every key with every kind of nonsense, and the data that is at hand."""

import copy
import gzip
import json
import math
import re
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from minimind import config, preflight
from minimind.errors import UserError

ROOT = Path(__file__).parents[1]
DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
PATH = Path("params.yaml")

NONSENSE = {
    "null": None, "text": "nonsense", "true": True, "empty": "", "list": [], "group": {}, "negative": -1, "zero": 0,
    "part": 0.5, "huge": 10**12, "nan": math.nan,
}  # fmt: skip

PRESET = {
    "hidden_size", "num_hidden_layers", "head_dim", "intermediate_size", "max_position_embeddings", "rope_theta",
    "rope_scaling", "rms_norm_eps", "qk_norm", "qk_norm_init", "tie_word_embeddings", "use_moe", "num_experts",
    "num_experts_per_tok", "num_shared_experts", "moe_intermediate_size", "norm_topk_prob", "router_aux_loss_coef",
    "router_aux_loss_per", "router_z_loss_coef", "router_bias_rate",
}  # fmt: skip
SENSIBLE = {  # kind of nonsense → keys for which it makes sense; everything else must be refused
    "null": PRESET | {"sha256", "size", "format", "name", "dpo", "prompts", "benchmark"},  # as where nothing is said
    "text": {"name", "files[0]", "map.text"},
    "true": {
        "isolate", "qk_norm", "tie_word_embeddings", "use_moe", "norm_topk_prob", "skip_spikes", "length_normalised",
        "control", "checkpoint_activations", "deterministic",
    },
    "empty": set(),
    "list": {"dpo", "prompts", "benchmark"},
    "group": {"map", "mixture", "mixture.pretrain", "mixture.sft", "lora", "runtime"},  # as where nothing is said
    "negative": set(),
    "zero": {
        "seed", "count", "min_characters", "max_characters", "min_language_share", "min_stop_words", "max_symbol_share",
        "min_terminal_share", "max_removed_share", "max_quarantine_share", "max_unusable_share",
        "thinking_off_share", "num_shared_experts",
        "router_aux_loss_coef", "router_z_loss_coef", "router_bias_rate", "steps", "epochs", "betas[0]", "betas[1]",
        "momentum", "weight_decay", "warmup_steps", "decay_share", "final_learning_rate_share", "replay", "rank", "nll",
        "pretrain_rows", "temperature", "alpha", "threads", "zero_stage", "micro_batch_size", "workers",
    },
    "huge": {"size"},  # a terabyte
    "nan": set(),
}  # fmt: skip

Document = dict[str, Any]


def conversation(number: int) -> dict[str, Any]:
    asked = {"role": "user", "content": f"What is {number}?"}
    return {"conversations": [asked, {"role": "assistant", "content": "A number."}]}


def write(name: str, *records: object) -> str:
    """A file in data/own; its uri."""
    path = Path("data/own") / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{r if isinstance(r, str) else json.dumps(r)}\n" for r in records), encoding="utf-8")
    return f"file:{path}"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with presets and some data, as the working folder."""
    folder = tmp_path_factory.mktemp("place")
    shutil.copytree(ROOT / "presets", folder / "presets")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write("chats.jsonl", *map(conversation, range(5)))
        yield folder


@pytest.fixture(scope="module")
def document(place: Path) -> Document:
    """The profile smoke, with sources of several kinds."""
    found = config.read(ROOT / "profiles/smoke.yaml")
    found["data"] |= {
        "pretrain": [
            {"uri": "atlas:pretrain", "count": 10, "seed": 1},
            {"uri": "https://host/a.csv", "sha256": DIGEST, "size": 10, "format": "csv", "map": {"text": "body"}},
            {"uri": "npm:package@1.0.0", "files": ["*.json"], "name": "package"},
            {"uri": "poetry:pretrain", "count": 10, "seed": 1},
        ],
        "sft": [{"uri": "file:data/own/chats.jsonl", "name": "chats"}],
    }  # fmt: skip
    found["pack"]["mixture"] = {"pretrain": {}, "sft": {"chats": {"weight": 1.0, "max_epochs": 2.0}}}
    found["model"]["rope_scaling"] = {"factor": 4.0, "original_max_position_embeddings": 256}
    return found


def leaves(value: Any, key: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every key, of groups and lists too."""
    if key:
        yield key
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, member in items:
        yield from leaves(member, (*key, name))


def changed(document: Document, key: tuple[Any, ...], value: object) -> Document:
    """A copy in which this stands at the key."""
    name, *rest = key
    result: Any = copy.copy(document)
    result[name] = changed(result[name], tuple(rest), value) if rest else value
    return result


def dotted(key: tuple[Any, ...]) -> str:
    return re.sub(r"\.(\d+)", r"[\1]", ".".join(map(str, key)))


def examine(document: Document) -> list[str]:
    return preflight.examine(config.checked(document, PATH), PATH)


def refusal(document: Document) -> str:
    """The one line that a document is refused with; empty if it is not."""
    try:
        examine(document)
    except UserError as error:
        message = str(error)
    else:
        return ""
    assert re.fullmatch(r"params\.yaml: .+", message), message  # one line, since `.` is none
    return message


def test_every_key_refuses_nonsense_in_one_line_that_names_it(
    document: Document, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "read", cache(config.read))  # two presets, over and over
    assert refusal(document) == ""
    accepted: dict[str, set[str]] = {kind: set() for kind in NONSENSE}
    for key in leaves(document):
        whole = dotted(key)
        for kind, value in NONSENSE.items():
            message = refusal(changed(document, key, value))
            if not message:
                accepted[kind].add(whole)
            # A name may be missed by those who use it.
            assert not message or re.search(rf"\b{re.escape(str(key[-1]))}\b|mixture|evaluate.split", message), message
    parts = accepted.pop("part")  # 0.5 is what most numbers may be that aren't counted
    assert {"pretrain.learning_rate", "clean.similarity"} < parts
    parts = {key for key in parts if not key.endswith("warmup_steps")}  # which may be a share
    assert not {key for key in parts if key.endswith(("size", "steps", "_every", "count", "seed", "tokens", "rank"))}
    for kind, keys in accepted.items():
        strange = {key for key in keys if not any(f".{key}".endswith(f".{name}") for name in SENSIBLE[kind])}
        assert not strange, f"{kind} is accepted"
        missed = {name for name in SENSIBLE[kind] if not any(f".{key}".endswith(f".{name}") for key in keys)}
        assert not missed, f"{kind} is refused"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (("pretrain", "validate_every"), 7, "validate_every 7 is not a multiple of log_every 5"),
        (("pretrain", "epochs"), 1.0, "set either steps or epochs above 0, not both"),
        (("evaluate", "split"), "tset", "`evaluate.split` is 'tset', .* are: dev, test; did you mean `test`?"),
        (("pack", "mixture", "sft"), {"chat": {"epochs": 2.0}}, "there is no source `chat` \\(known: chats"),
        (("pack", "max_seq_len"), 4096, "`pack.max_seq_len` 4096 tokens don't fit `model.max_position_embeddings`"),
        (("teacher", "top_k"), 1000, "`teacher.top_k` 1000 exceeds `tokenizer.vocab_size` 768"),
        (("runtime", "strategy"), "deepspeed", "`pretrain`: runtime.strategy is deepspeed, .* Muon"),
        (("runtime", "processes"), 5, "`pretrain`: runtime.processes: 5 processes can't share a batch of 4 rows"),
        (("base",), True, "`base` is true, and data/base/model holds no model"),
        (("clean", "max_characters"), 3, "max_characters 3 is below clean.min_characters 5"),
        (("data", "pretrain", 0, "uri"), "atlas:pretrian", "there is no data set 'pretrian'"),
        (("data", "pretrain", 3), {"uri": "poetry:sft", "count": 0, "seed": 1}, "poetry:sft has to bring some"),
        (("data", "pretrain", 0, "count"), 0, "`data.pretrain\\[0\\].count` is 0"),
        (("extra",), 1, "there is no section `extra`"),
    ],
)
def test_what_two_keys_say_of_each_other_is_checked(
    document: Document, key: tuple[Any, ...], value: object, message: str
) -> None:
    document = changed(document, ("clean", "min_characters"), 5)
    assert re.search(message, refusal(changed(document, key, value)))


TEXTS = [{"text": f"Text {number}."} for number in range(5)]
PAIRS = [
    {part: [{"role": "user", "content": "Well?"}, {"role": "assistant", "content": part}] for part in
     ("chosen", "rejected")}
]  # fmt: skip
ITEM = {"id": "1", "family": "sums", "kind": "generate", "messages": [{"role": "user", "content": "1+1?"}],
        "verify": {"kind": "exact", "value": "2"}}  # fmt: skip
FOREIGN = [{"frage": f"Warum {number}?", "antwort": "Darum."} for number in range(5)]
GOOD = {
    "pretrain": TEXTS, "sft": [conversation(1)], "dpo": PAIRS, "prompts": [conversation(1)], "benchmark": [ITEM],
}  # fmt: skip


@pytest.mark.parametrize("data_set", GOOD)
def test_records_of_another_schema_are_refused_with_what_they_have(document: Document, data_set: str) -> None:
    document = changed(document, ("pack", "mixture", "sft"), {})
    entry = {"uri": write(f"{data_set}/records.jsonl", *GOOD[data_set]), "name": "test"}
    document = changed(document, ("data", data_set), [entry])
    assert refusal(document) == ""
    write(f"{data_set}/records.jsonl", *FOREIGN)
    message = refusal(document)
    assert message.startswith(f"params.yaml: `data.{data_set}[0]`: ")
    assert "records.jsonl:1: " in message or "test.jsonl:1: " in message
    if data_set != "benchmark":
        assert "keys are frage, antwort. Say beside the uri where what is wanted stands, such as `map: {" in message


@pytest.mark.parametrize(
    ("data_set", "record"),
    [
        ("sft", {"instruction": "Say hello.", "input": None, "output": "Hello."}),
        ("dpo", {"prompt": [PAIRS[0]["chosen"][0]], "chosen": "A", "rejected": "B"}),
        ("prompts", {"prompt": "What is a river?"}),
    ],
)
def test_records_that_are_recognised_pass(document: Document, data_set: str, record: dict[str, Any]) -> None:
    document = changed(document, ("pack", "mixture", "sft"), {})
    entry = {"uri": write(f"{data_set}/records.jsonl", record), "name": "test"}
    assert refusal(changed(document, ("data", data_set), [entry])) == ""


def test_a_benchmark_is_read_to_its_end(document: Document) -> None:
    wrong = ITEM | {"id": "2", "verify": {"kind": "exakt", "value": "2"}}
    entry = {"uri": write("items.jsonl", ITEM, wrong), "name": "test"}
    message = refusal(changed(document, ("data", "benchmark"), [entry]))
    assert "`data.benchmark[0]`: test.jsonl:2: verify.kind is 'exakt', expected one of" in message
    write("items.jsonl", ITEM, ITEM)
    assert "test.jsonl:2: the id 1 stands there twice" in refusal(changed(document, ("data", "benchmark"), [entry]))


@pytest.mark.parametrize(
    "records", [["", "", TEXTS[0]], [{"text": " "}, *TEXTS], ["no JSON", *TEXTS], [], [{"text": ""}]],
    ids=["blank", "empty", "broken", "none", "only-empty"],
)  # fmt: skip
def test_a_single_bad_record_is_no_reason(document: Document, records: list[object]) -> None:
    entry = {"uri": write("lines.jsonl", *records)}
    assert refusal(changed(document, ("data", "pretrain"), [entry])) == ""


def test_files_of_every_format_are_looked_into(document: Document) -> None:
    folder = Path("data/own/formats")
    folder.mkdir()
    (folder / "a.csv").write_text("body\nWords.\n")
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(b'{"body": "Words."}\n' * 3))
    (folder / "c.json").write_text('[{"body": "Words."}]')
    pyarrow.parquet.write_table(pyarrow.table({"body": ["Words."] * 3}), folder / "d.parquet")
    for path in folder.iterdir():
        mapped = changed(document, ("data", "pretrain"), [{"uri": f"file:{path}", "map": {"text": "body"}}])
        assert refusal(mapped) == "", path
        message = refusal(changed(document, ("data", "pretrain"), [{"uri": f"file:{path}"}]))
        assert f"{path}:1: " in message and "keys are body" in message and "`map: {text: body}`" in message


def test_a_file_may_be_absent_and_must_not_lie_anywhere(document: Document) -> None:
    missing = changed(document, ("data", "sft", 0, "uri"), "file:data/own/none/*.jsonl")
    (absent,) = examine(missing)
    assert absent.startswith("`data.sft[0]`: file:data/own/none/*.jsonl: there is no such file")
    Path("elsewhere.jsonl").write_text(json.dumps(conversation(1)))
    message = refusal(changed(document, ("data", "sft", 0, "uri"), "file:elsewhere.jsonl"))
    assert "DVC would not see elsewhere.jsonl change" in message


def test_the_profiles_that_come_along_pass() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        for name in ("atlas", "custom", "poetry"):
            preflight.check(Path(f"profiles/{name}.yaml"))
