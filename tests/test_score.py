"""A model that has learnt a few answers by heart, right ones and wrong ones, and what the benchmark says of it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from minimind import benchmark, score
from minimind.benchmark import BenchmarkError
from minimind.chat import Chat
from minimind.losses import IGNORE
from minimind.model import Decoder, ModelConfig
from minimind.score import Examinee, Result
from minimind.statistics import wilson
from minimind.tokenizer import BOS, EOS

torch.set_num_threads(1)

Item = dict[str, Any]

TOOLS = [{"type": "function", "function": {"name": "calculator", "parameters": {}}}]
CALL = {"name": "calculator", "arguments": {"expression": "12 + 7"}}
REFUSALS = ["No idea", "不"]


def ask(*turns: str) -> list[dict[str, Any]]:
    """A conversation that the user begins and ends."""
    return [{"role": ("user", "assistant")[i % 2], "content": turn} for i, turn in enumerate(turns)]


def exact(value: str) -> Item:
    return {"kind": "exact", "value": value}


def clean(value: str) -> Item:
    return {"family": "clean", "verify": exact(value)}


def tool(question: str, result: str, answer: str) -> Item:
    item = {"kind": "tool", "messages": ask(question), "tools": TOOLS, "call": CALL, "result": result}
    return item | {"verify": exact(answer)}


def say(question: list[dict[str, Any]], spec: Item, **more: Any) -> Item:
    return {"kind": "generate", "messages": question, "verify": spec, **more}


def choose(context: str, choices: list[str], answer: int) -> Item:
    return {"kind": "choice", "context": context, "choices": choices, "answer": answer}


SEINE = {"kind": "contains", "value": "Seine"}
REFUSAL = {"kind": "refusal", "value": REFUSALS}

# Item, what the model says, and whether that is right. What it says is content, or (call, content after the result).
CASES: dict[str, tuple[Item, Any, bool]] = {
    "know-1": (choose("France:", [" Paris is", " Seine"], 0), " Paris is", True),
    "know-2": (choose("法国:", ["巴黎", "塞纳河"], 1), "巴黎", False),
    "seen-1": (say(ask("France"), exact("Paris"), sampled=clean("Paris"), refusals=REFUSALS), "Paris", True),
    "seen-2": (say(ask("法国"), exact("巴黎"), sampled=clean("巴黎"), refusals=REFUSALS), "不", False),
    "heldout-1": (say(ask("sea"), SEINE, refusals=REFUSALS), "the Seine.", True),
    "multiturn-1": (say(ask("France", "Paris", "and?"), exact("法国")), "法国", True),
    "tool-1": (tool("12 + 7?", "19", "It is 19"), (CALL, "It is 19"), True),
    "tool-2": (tool("What is 12 + 7", "19", "19"), (CALL, "42"), False),
    "tool-3": (tool("digits", "19", "digits"), (CALL | {"name": "unit"}, "digits"), False),
    "refuse-1": (say(ask("one?"), REFUSAL), "No idea, one", True),
}
ITEMS = [{"id": id, "family": id.split("-")[0], **item} for id, (item, _, _) in CASES.items()]
EXPECTED = [Result(id, id.split("-")[0], right, "") for id, (_, _, right) in CASES.items()] + [
    Result("seen-1", "overrefuse", False, ""),
    Result("seen-2", "overrefuse", True, ""),
    Result("heldout-1", "overrefuse", False, ""),
    Result("seen-1", "clean", True, ""),
    Result("seen-2", "clean", False, ""),
]


@pytest.fixture(scope="module")
def chat(tokenizer_folder: Path) -> Chat:
    return Chat(tokenizer_folder)


@pytest.fixture(scope="module")
def model(chat: Chat) -> Decoder:
    texts = []
    for item, said, _ in CASES.values():
        if item["kind"] == "choice":
            (ids,) = chat.encode_texts([item["context"] + said])
            texts.append(([BOS, *ids, EOS], [0] + [1] * (len(ids) + 1)))
        elif item["kind"] == "tool":
            call, answer = said
            messages = [
                *item["messages"],
                {"role": "assistant", "content": "", "reasoning_content": "Add", "tool_calls": [call]},
                {"role": "tool", "content": item["result"]},
                {"role": "assistant", "content": answer},
            ]
            texts.append(chat.encode(messages, item["tools"]))
        else:
            texts.append(chat.encode([*item["messages"], {"role": "assistant", "content": said}]))
    T = max(len(ids) for ids, _ in texts)
    ids, targets, documents = torch.zeros(3, len(texts), T, dtype=torch.int64)
    for i, (tokens, learn) in enumerate(texts):
        ids[i, : len(tokens)], documents[i, : len(tokens)] = torch.tensor(tokens), 1
        targets[i, : len(tokens) - 1] = torch.tensor(tokens[1:]).where(torch.tensor(learn[1:]) == 1, IGNORE)
    targets[documents == 0] = IGNORE
    config = ModelConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=64,
        max_position_embeddings=192, vocab_size=chat.tokenizer.get_vocab_size(),
    )  # fmt: skip
    model = Decoder(config).initialise(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(120):
        optimizer.zero_grad()
        logits = model.logits(model(ids, documents)[0])
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE).backward()
        optimizer.step()
    return model


def examine(model: Decoder, chat: Chat, **settings: Any) -> list[Result]:
    return score.run(Examinee(model, chat, **{"max_new_tokens": 40, "seed": 1, "batch_size": 3, **settings}), ITEMS)


def judged(results: list[Result]) -> list[tuple[str, str, bool]]:
    return [(result.id, result.family, result.correct) for result in results]


def test_every_verdict_is_right(model: Decoder, chat: Chat) -> None:
    told: list[int] = []
    results = examine(model, chat, report=told.append)
    assert judged(results) == judged(EXPECTED)
    outputs = {(result.family, result.id): result.output for result in results}
    assert outputs["know", "know-2"] == "巴黎"
    assert outputs["seen", "seen-2"] == outputs["overrefuse", "seen-2"] == "不"
    call = '<think>Add</think><tool_call>{"name": "calculator", "arguments": {"expression": "12 + 7"}}</tool_call>'
    assert outputs["tool", "tool-1"] == f"{call}\nIt is 19"
    assert outputs["tool", "tool-3"] == call.replace("calculator", "unit")
    assert sum(told) == score.num_reports(ITEMS) - 1  # one wrong call has no second turn


def test_batches_change_nothing(model: Decoder, chat: Chat) -> None:
    assert examine(model, chat, batch_size=1) == examine(model, chat, batch_size=64)


def test_an_answer_without_end_is_wrong(model: Decoder, chat: Chat) -> None:
    (ids,) = chat.encode_texts(["Paris"])
    right = {result.id for result in examine(model, chat, max_new_tokens=len(ids)) if result.correct}
    assert "seen-1" not in right
    assert {result.id for result in examine(model, chat, max_new_tokens=len(ids)) if result.cut} >= {"seen-1"}
    assert "seen-1" in {result.id for result in examine(model, chat, max_new_tokens=len(ids) + 1) if result.correct}


def test_clean_is_sampled(model: Decoder, chat: Chat) -> None:
    item = next(item for item in ITEMS if item["id"] == "seen-1")
    items = [item | {"id": f"seen-{i}"} for i in range(300)]
    flat = Decoder(model.config)
    flat.load_state_dict(model.state_dict())
    flat.model.norm.weight.data *= 0.6  # less sure of itself

    def drawn(seed: int) -> list[bool]:
        results = score.run(Examinee(flat, chat, 40, seed, 64), items)
        return [result.correct for result in results if result.family == "clean"]

    first = drawn(1)
    assert drawn(1) == first
    assert drawn(2) != first
    answer = [*chat.encode_texts(["Paris"])[0], EOS]
    ids = torch.tensor([chat.prompt(item["messages"]) + answer])
    logprobs = flat.logits(flat(ids, torch.ones_like(ids))[0])[0].log_softmax(-1)
    picked = logprobs[-len(answer) - 1 : -1].gather(1, torch.tensor(answer)[:, None])
    low, high = wilson(sum(first), len(first), 0.999)
    assert 0.05 < low < picked.sum().exp().item() < high < 0.95


def test_choices_are_compared_by_the_mean_over_their_tokens(model: Decoder, chat: Chat) -> None:
    item = ITEMS[0] | {"choices": [" Paris is", " P", " Seine", " the sea and the sea and the sea"]}
    totals = []
    for choice in item["choices"]:
        context, text = chat.encode_texts([item["context"], item["context"] + choice])
        assert text[: len(context)] == context
        ids = torch.tensor([[BOS, *text]])
        logprobs = model.logits(model(ids, torch.ones_like(ids))[0])[0, :-1].log_softmax(-1)
        totals.append(logprobs.gather(1, ids[0, 1:, None])[len(context) :].mean().item())
    assert Examinee(model, chat, 8, 0, 4).choose([item]) == [totals.index(max(totals))]


def test_families_are_counted() -> None:
    results = [Result("x", "poem", True, ""), *(Result(str(i), "word", i < 3, "") for i in range(4))]
    families = score.families([*results, Result("y", "know", False, "")])
    assert list(families) == ["know", "word", "poem"]  # the known ones in their order
    low, high = wilson(3, 4)
    assert families["word"] == {"score": 0.75, "n": 4, "low": round(low, 6), "high": round(high, 6)}
    assert families["know"]["score"] == 0


def test_files_are_read_and_written(tmp_path: Path) -> None:
    (tmp_path / "dev.jsonl").write_text("".join(json.dumps(item) + "\n" for item in ITEMS))
    assert benchmark.read(tmp_path, "dev") == ITEMS
    held_out = {"pretrain": {"0-books": {"zh": {"bits_per_byte": 1.25, "bytes": 900, "documents": 3}}}}
    score.write(tmp_path / "m.json", tmp_path / "m.items.jsonl", {"checkpoint": "sft"}, EXPECTED, held_out)
    assert json.loads((tmp_path / "m.json").read_text())["families"]["tool"]["n"] == 3
    lines = [json.loads(line) for line in (tmp_path / "m.items.jsonl").read_text().splitlines()]
    assert [Result(**line) for line in lines] == EXPECTED
    assert json.loads((tmp_path / "m.json").read_text())["held_out"] == held_out
    told = score.flat("dev", EXPECTED, held_out)
    assert told["held_out/pretrain/0-books/zh"] == 1.25 and told["dev/know"] == 0.5


def test_what_is_no_conversation_or_too_long_is_named(model: Decoder, chat: Chat) -> None:
    with pytest.raises(BenchmarkError, match="item seen-9: message 1: the role is 'poet'"):
        Examinee(model, chat, 8, 0, 4).answer([{"id": "seen-9", "messages": [{"role": "poet", "content": ""}]}])
    long = "What is 12 + 7? " * 60
    with pytest.raises(BenchmarkError, match=r"item long takes \d+ tokens with evaluate.max_new_tokens, .* 192 posi"):
        Examinee(model, chat, 8, 0, 4).answer([{"id": "long", "messages": ask(long)}])
    with pytest.raises(BenchmarkError, match=r"item long takes \d+ tokens, but the model has 192 positions: shorten"):
        Examinee(model, chat, 8, 0, 4).choose([{"id": "long", **choose(long, ["19", "20"], 0)}])
