"""A tiny teacher that has learnt a few answers by heart: what it is asked, what is kept of it, what it predicts."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from minimind import columns, files, teacher, tokenizer
from minimind.batches import Batch
from minimind.chat import Chat
from minimind.losses import IGNORE
from minimind.model import Decoder, ModelConfig
from minimind.objectives.distillation import topk_kl
from minimind.process import STOPPED
from minimind.prompts import PromptsError
from minimind.rows import Rows, RowWriter, read_columns, write_columns
from minimind.teacher import TeacherConfig, TeacherError
from minimind.tokenizer import BOS, EOS, TokenizerConfig

torch.set_num_threads(1)

CALL = {"name": "add", "arguments": {"x": "1+2"}}
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {}}}]
LEARNT: list[tuple[str, dict[str, Any]]] = [
    ("red", {"content": "rose"}),
    ("blue", {"content": "sky", "reasoning_content": "up"}),
    ("1+2", {"content": "", "tool_calls": [CALL]}),
]
CONFIG = TeacherConfig(top_k=3, max_new_tokens=48, pretrain_rows=3, validation_share=0.4, max_unusable_share=0.6)
ROW_LENGTH = 128


def ask(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Chat:
    folder = tmp_path_factory.mktemp("tokenizer")
    texts = ["red rose, blue sky", '{"name": "add", "arguments": {"x": "1+2"}}', "user assistant up"] * 3
    config = TokenizerConfig(vocab_size=330, isolate=True, max_bytes=1000, held_out_share=0.1)
    tokenizer.save(tokenizer.train(texts, config), folder)
    return Chat(folder)


@pytest.fixture(scope="module")
def model(chat: Chat) -> Decoder:
    """Knows the answers of LEARNT."""
    config = ModelConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=64,
        max_position_embeddings=192, vocab_size=chat.tokenizer.get_vocab_size(),
    )  # fmt: skip
    model = Decoder(config).initialise(0)
    encoded = [
        chat.encode([*ask(question), {"role": "assistant", **answer}], TOOLS if "tool_calls" in answer else None)
        for question, answer in LEARNT
    ]
    ids = torch.zeros(len(encoded), ROW_LENGTH, dtype=torch.int64)
    targets, documents = torch.full_like(ids, IGNORE), torch.zeros_like(ids)
    for i, (tokens, learn) in enumerate(encoded):
        ids[i, : len(tokens)] = torch.tensor(tokens)
        documents[i, : len(tokens)] = 1
        targets[i, : len(tokens) - 1] = torch.tensor(tokens[1:]).where(torch.tensor(learn[1:]) == 1, IGNORE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(80):
        optimizer.zero_grad()
        logits = model.logits(model(ids, documents)[0])
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE).backward()
        optimizer.step()
    return model


PROMPTS = [
    {"messages": ask("red"), "verify": {"kind": "exact", "value": "rose"}, "family": "colour"},
    {"messages": ask("blue"), "verify": {"kind": "exact", "value": "sky"}, "family": "colour"},
    {"messages": ask("red"), "verify": {"kind": "exact", "value": "blood"}, "family": "colour"},
    {"messages": ask("1+2"), "tools": TOOLS, "verify": {"kind": "call", "value": CALL}, "family": "tool"},
    {
        "messages": ask("1+2"),
        "tools": TOOLS,
        "verify": {"kind": "call", "value": CALL | {"name": "subtract"}},
        "family": "tool",
    },
    {"conversations": [*ask("blue"), {"role": "assistant", "content": ""}]},  # MiniMind's schema
    {"messages": ask("blue"), "verify": {"kind": "magic", "value": "sky"}, "family": "colour"},
    {"messages": ask("red " * 400), "family": "long"},
]
VERDICTS = ["accepted", "accepted", "wrong", "accepted", "wrong", "unverified", "bad prompt", "too long", "bad prompt"]


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    folder = tmp_path / "prompts"
    folder.mkdir()
    (folder / "0-first.jsonl").write_text("\n".join(map(json.dumps, PROMPTS)) + "\n")
    (folder / "1-second.jsonl").write_text('{"messages": [\n')
    return folder


class States:
    """Stands where `resume.Resume` does; asks for a stop after every save but the last ones."""

    def __init__(self, folder: Path, stops: int = 0):
        folder.mkdir(exist_ok=True)
        self.folder, self.stops = folder, stops
        self.saved: dict[str, Any] | None = None

    @property
    def stop_requested(self) -> bool:
        self.stops -= 1
        return self.stops >= 0

    def save(self, step: int, state: dict[str, Any]) -> None:
        self.saved = dict(state)

    def load(self) -> dict[str, Any] | None:
        return self.saved


def answer(model: Decoder, chat: Chat, prompts: Path, states: States, config: TeacherConfig = CONFIG) -> Path:
    return teacher.answer(model, chat, prompts, config, 0, 4, states)  # type: ignore[arg-type]


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_every_prompt_is_answered_and_judged(model: Decoder, chat: Chat, prompts: Path, tmp_path: Path) -> None:
    records = read(answer(model, chat, prompts, States(tmp_path / "resume")))
    assert [record["verdict"] for record in records] == VERDICTS
    assert [record["prompt"] for record in records] == [f"0-first.jsonl:{i}" for i in range(1, 9)] + [
        "1-second.jsonl:1"
    ]
    assert records[0]["answer"] == "rose"
    assert records[1]["answer"] == "<think>up</think>sky"
    assert records[5]["messages"] == ask("blue")


def test_an_answer_that_does_not_end_is_dropped(model: Decoder, chat: Chat, prompts: Path, tmp_path: Path) -> None:
    config = TeacherConfig(top_k=3, max_new_tokens=1, pretrain_rows=0, validation_share=0.1)
    records = read(answer(model, chat, prompts, States(tmp_path / "resume"), config))
    assert {record["verdict"] for record in records} == {"unfinished", "too long", "bad prompt"}


def test_interrupted_answers_go_on_and_end_alike(
    model: Decoder, chat: Chat, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teacher, "PROMPTS_PER_CHUNK", 2)
    config = TeacherConfig(top_k=3, max_new_tokens=8, pretrain_rows=0, validation_share=0.1, temperature=1.5)
    expected = answer(model, chat, prompts, States(tmp_path / "whole"), config).read_bytes()
    states = States(tmp_path / "resume", stops=2)
    for _ in range(2):
        with pytest.raises(SystemExit) as stopped:
            answer(model, chat, prompts, states, config)
        assert stopped.value.code == STOPPED
        with (states.folder / "answers.jsonl").open("ab") as stream:  # what a kill leaves behind the last save
            stream.write(b'{"prompt": ')
    assert answer(model, chat, prompts, states, config).read_bytes() == expected


def text_rows(folder: Path, chat: Chat, counts: dict[str, int]) -> dict[str, Rows]:
    """Packed pretraining text, of two documents a row."""
    folder.mkdir()
    ids = [BOS, *chat.encode_texts(["red rose, blue sky"])[0], EOS]
    learn = [0] + [1] * (len(ids) - 1)
    for split, count in counts.items():
        with RowWriter(folder / f"{split}.arrow", ROW_LENGTH, chat.tokenizer.get_vocab_size()) as writer:
            for _ in range(count):
                writer.add([(ids, learn, len("red rose, blue sky"))] * 2)
    files.write_manifest(folder)
    return {split: Rows.open(folder, split) for split in counts}


def test_kept_answers_and_text_are_packed(model: Decoder, chat: Chat, prompts: Path, tmp_path: Path) -> None:
    text = text_rows(tmp_path / "text", chat, {"train": 3, "validation": 4})
    answers, out = answer(model, chat, prompts, States(tmp_path / "resume")), tmp_path / "out"
    out.mkdir()
    statistics = teacher.pack(answers, chat, text, CONFIG, 0, out)
    documents = []
    for split, rows_of_text in (("train", 3), ("validation", 2)):
        rows = Rows.open(out, split)
        assert len(rows) == statistics["rows"][split]
        tokens, learn, numbers = (rows.column(name) for name in ("tokens", "learn", "documents"))
        np.testing.assert_array_equal(tokens[-rows_of_text:], text[split].column("tokens")[:rows_of_text])
        np.testing.assert_array_equal(learn[-rows_of_text:], text[split].column("learn")[:rows_of_text])
        for row in range(len(rows) - rows_of_text):
            for number in range(1, numbers[row].max() + 1):
                here = numbers[row] == number
                documents.append((tokens[row][here].tolist(), learn[row][here].tolist()))
    # What the teacher said, written as a conversation, gives the same tokens with the same ones to learn.
    expected = [
        chat.encode([*ask(question), {"role": "assistant", **said}], TOOLS if "tool_calls" in said else None)
        for question, said in [*LEARNT, LEARNT[1]]
    ]
    assert sorted(documents) == sorted(expected)
    assert statistics["verdicts"] == {name: VERDICTS.count(name) for name in sorted(set(VERDICTS))}
    assert statistics["families"]["colour"] == {"accepted": 2, "wrong": 1}
    assert [record["verdict"] for record in read(out / "answers.jsonl")] == VERDICTS
    files.verify_manifest(out)


def test_copied_text_keeps_its_counts(chat: Chat, prompts: Path, tmp_path: Path) -> None:
    text = text_rows(tmp_path / "text", chat, {"train": 5})["train"]
    sizes = np.array(tokenizer.token_bytes(chat.tokenizer))
    with RowWriter(tmp_path / "copy.arrow", ROW_LENGTH, text.vocab_size) as writer:
        teacher.copy(text, [0, 1, 2, 3, 4], sizes, writer)
    columns, metadata = read_columns(tmp_path / "copy.arrow")
    assert metadata["target_tokens"] == text.target_tokens and metadata["target_bytes"] == text.target_bytes
    for name, values in columns.items():
        np.testing.assert_array_equal(values, text.column(name))


def test_of_too_little_text_all_is_taken(model: Decoder, chat: Chat, prompts: Path, tmp_path: Path) -> None:
    text = text_rows(tmp_path / "text", chat, {"train": 2, "validation": 1})
    answers, out = answer(model, chat, prompts, States(tmp_path / "resume")), tmp_path / "out"
    out.mkdir()
    rows = teacher.pack(answers, chat, text, replace(CONFIG, pretrain_rows=10**9), 0, out)["rows"]
    for split, count in {"train": 2, "validation": 1}.items():
        last = Rows.open(out, split).column("tokens")[-count:]
        np.testing.assert_array_equal(last, text[split].column("tokens"))
    assert rows["train"] > 2, "the answers stand before the text"


def test_too_many_rejected_answers_fail_with_the_first(
    model: Decoder, chat: Chat, prompts: Path, tmp_path: Path
) -> None:
    text = text_rows(tmp_path / "text", chat, {"train": 3, "validation": 4})
    config = replace(CONFIG, max_unusable_share=0.5)
    answers = answer(model, chat, prompts, States(tmp_path / "resume"), config)
    with pytest.raises(PromptsError) as caught:
        teacher.pack(answers, chat, text, config, 0, tmp_path)
    said = str(caught.value)
    assert "5 of 9 bring no answer to learn from (2 wrong, 2 bad prompt, 1 too long)" in said
    assert "teacher.max_unusable_share 0.5 allows. The first: 0-first.jsonl:3: wrong: 'rose'; 0-first" in said
    assert str(answers) in said


def test_prompts_that_can_t_be_read_fail_before_any_is_answered(
    model: Decoder, chat: Chat, prompts: Path, tmp_path: Path
) -> None:
    states = States(tmp_path / "resume")
    with pytest.raises(PromptsError, match=r"2 of 9 .*\(2 bad prompt\).*0-first.jsonl:7: bad prompt: `verify` can't"):
        answer(model, chat, prompts, states, replace(CONFIG, max_unusable_share=0.2))
    assert states.saved is None


def test_no_prompts_are_refused(model: Decoder, chat: Chat, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(TeacherError, match="holds no prompts"):
        answer(model, chat, tmp_path / "empty", States(tmp_path / "resume"))


@pytest.mark.parametrize("tied", [True, False])
def test_rows_of_a_teacher_without_a_token_are_never_named(
    tied: bool, model: Decoder, chat: Chat, prompts: Path, tmp_path: Path
) -> None:
    num_tokens = model.config.vocab_size
    config = replace(model.config, vocab_size=num_tokens + 30, tie_word_embeddings=tied)
    padded, rows = Decoder(config), 5 * torch.randn(30, 32, generator=torch.Generator().manual_seed(0))
    weights = model.state_dict()
    weights["model.embed_tokens.weight"] = torch.cat((model.model.embed_tokens.weight.detach(), rows))
    if not tied:
        weights["lm_head.weight"] = torch.cat((model.output_weight.detach(), rows))
    padded.load_state_dict(weights)
    batch = random_batch(num_tokens)
    with torch.no_grad():
        assert teacher.predict(padded, batch, 5)["teacher_ids"].max() >= num_tokens  # they are the most probable
    text = text_rows(tmp_path / "text", chat, {"train": 3, "validation": 4})
    answers, out = answer(padded, chat, prompts, States(tmp_path / "resume")), tmp_path / "out"
    out.mkdir()
    assert [record["verdict"] for record in read(answers)] == VERDICTS
    teacher.pack(answers, chat, text, CONFIG, 0, out)
    with torch.no_grad():
        predicted, expected = (teacher.predict(one, batch, 5) for one in (padded, model))
    assert torch.equal(predicted["teacher_ids"], expected["teacher_ids"])
    torch.testing.assert_close(predicted["teacher_logprobs"], expected["teacher_logprobs"])


def random_batch(vocab_size: int) -> Batch:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, vocab_size, (4, 16), generator=generator)
    targets = ids.roll(-1, 1)
    targets[:, ::3] = IGNORE
    return {"ids": ids, "targets": targets, "documents": torch.ones_like(ids)}


def test_predictions_are_the_model_s_most_probable_tokens(model: Decoder) -> None:
    batch = random_batch(model.config.vocab_size)
    with torch.no_grad():
        predicted = teacher.predict(model, batch, 5)
        logits = model.logits(model(batch["ids"], batch["documents"])[0])
    probabilities, order = logits.double().softmax(-1).sort(-1, descending=True)
    learnt = batch["targets"] != IGNORE
    assert torch.equal(predicted["teacher_ids"][learnt], order[learnt][:, :5])
    kept = predicted["teacher_logprobs"][learnt].double().exp()
    torch.testing.assert_close(kept[:, :5], probabilities[learnt][:, :5], atol=1e-3, rtol=5e-3)
    torch.testing.assert_close(kept[:, 5], probabilities[learnt][:, 5:].sum(-1), atol=1e-3, rtol=5e-3)
    assert (predicted["teacher_ids"][~learnt] == 0).all() and (predicted["teacher_logprobs"][~learnt] == 0).all()
    assert topk_kl(logits, predicted["teacher_ids"], predicted["teacher_logprobs"])[learnt].abs().max() < 1e-3


def test_a_vocabulary_smaller_than_k_is_refused(model: Decoder) -> None:
    with pytest.raises(TeacherError, match="teacher.top_k is 1000"):
        teacher.predict(model, random_batch(model.config.vocab_size), 1000)


def test_predictions_survive_the_disk(model: Decoder, chat: Chat, tmp_path: Path) -> None:
    rows = text_rows(tmp_path / "text", chat, {"train": 3})["train"]
    shapes = teacher.shapes(ROW_LENGTH, rows.vocab_size, 4)
    states: Any = States(tmp_path / "resume")
    computed = columns.compute(lambda b: teacher.predict(model, b, 4), rows, shapes, states, "x", torch.device("cpu"))
    write_columns(tmp_path / "predictions.arrow", computed)
    stored, _ = read_columns(tmp_path / "predictions.arrow")
    for name, (shape, dtype) in shapes.items():
        assert stored[name].shape == (3, *shape) and stored[name].dtype == dtype
        assert stored[name].tobytes() == computed[name].tobytes()
    assert (stored["teacher_logprobs"] <= 0).all()


def test_every_wrong_value_is_named() -> None:
    with pytest.raises(ValueError, match="teacher.top_k is 0"):
        TeacherConfig(top_k=0, max_new_tokens=1, pretrain_rows=0, validation_share=0.1)
    with pytest.raises(ValueError, match="teacher.max_unusable_share is 2"):
        replace(CONFIG, max_unusable_share=2.0)
    with pytest.raises(ValueError, match="teacher.validation_share is 1"):
        TeacherConfig(top_k=1, max_new_tokens=1, pretrain_rows=0, validation_share=1)


def test_what_became_of_the_answers_is_said_in_words() -> None:
    assert teacher.told({"accepted": 1100, "unverified": 2}) == (
        "the student learns from the teacher's answers to 1,102 of 1,102 prompts, and from rows of text"
    )
    assert teacher.told({"empty": 54, "wrong": 6}) == (
        "the student learns from rows of text alone: no answer to any of 60 prompts can be used; left out are "
        "prompts: 54 to which it says nothing, 6 to which it gives a wrong answer"
    )
    assert "answers to 1 of 2 prompts" in teacher.told({"accepted": 1, "bad prompt": 1})
    judged = {teacher.judge({"kind": "exact", "value": "4"}, text, finished) for text, finished in
              (("4", True), ("5", True), ("", True), ("4", False))}  # fmt: skip
    assert judged - {*teacher.KEPT} <= {*teacher.MEANINGS}
