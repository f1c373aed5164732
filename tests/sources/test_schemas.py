"""Which schema a record is in, told by its keys, and what becomes of it."""

import json
from typing import Any

import pytest

from minimind.corpus import Pair, parse_pair
from minimind.sources import schemas
from minimind.sources.schemas import Found, UnclearError

SYSTEM = {"role": "system", "content": "S"}
ASKED = {"role": "user", "content": "Q"}
GOOD, BAD = {"role": "assistant", "content": "A"}, {"role": "assistant", "content": "B"}
TALK, PAIR = {"conversations": [ASKED, GOOD]}, {"chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]}


def found(record: dict[str, Any], data_set: str) -> Found:
    result = schemas.recognise(record, data_set)
    assert result is not None
    return result


@pytest.mark.parametrize(
    ("schema", "record"),
    [
        ("", TALK),
        ("OpenAI messages", {"messages": [ASKED, GOOD]}),
        ("OpenAI messages", {"conversations": [{**ASKED, "content": [{"type": "text", "text": "Q"}]}, GOOD]}),
        ("ShareGPT", {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}], "system": ""}),
        ("OpenAI messages", {"dialogue": [ASKED, GOOD]}),
        ("messages in text", {"messages": json.dumps([ASKED, GOOD])}),
        ("messages in text", {"conversations": str([ASKED, GOOD])}),
        ("Alpaca", {"instruction": "Q", "input": "", "output": "A"}),
        ("Alpaca", {"instruction": "Q", "input": None, "output": "A", "system": None}),
        ("trl prompt-completion", {"prompt": "Q", "completion": "A"}),
        ("trl prompt-completion", {"prompt": [ASKED], "completion": [GOOD]}),
        ("trl prompt-completion", {"prompt": json.dumps([ASKED]), "completion": json.dumps([GOOD])}),
        ("MiniMind V1", {"history": "[]", "q": "Q", "a": "A"}),
        ("question and answer", {"question": "Q", "answer": "A"}),
        ("question and answer", {"input": "Q", "output": "A"}),
    ],
)
def test_conversations(schema: str, record: dict[str, Any]) -> None:
    assert (found(record, "sft").schema, found(record, "sft").record) == (schema, TALK)


def test_what_stands_beside_comes_along() -> None:
    alpaca = {"instruction": "Q", "input": "x", "output": "A", "system": "S", "history": [["q", "a"]], "id": 7}
    made = found(alpaca, "sft")
    before = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    question = {"role": "user", "content": "Q\nx"}
    assert made.record == {"conversations": [SYSTEM, *before, question, GOOD], "id": 7}
    assert set(made.used) == {"instruction", "input", "output", "system", "history"}
    dolly = {"instruction": "Q", "context": "x", "response": "A"}
    assert found(dolly, "sft").record == {"conversations": [question, GOOD]}
    openai = {"messages": [ASKED, GOOD], "functions": [{"name": "f"}], "system": "S"}
    assert found(openai, "sft").record == {"conversations": [SYSTEM, ASKED, GOOD], "tools": [{"name": "f"}]}
    own = {"messages": [SYSTEM, ASKED, GOOD], "system": "other", "tools": "[]"}
    assert found(own, "sft").record == {"conversations": [SYSTEM, ASKED, GOOD], "system": "other", "tools": "[]"}


@pytest.mark.parametrize(
    ("schema", "record"),
    [
        ("", PAIR),
        ("", {**PAIR, "prompt": "Q"}),
        ("", {**PAIR, "prompt": [ASKED], "messages": [ASKED, GOOD]}),
        ("trl preference", {"prompt": "Q", "chosen": "A", "rejected": "B"}),
        ("trl preference", {"prompt": [ASKED], "chosen": [GOOD], "rejected": [BAD]}),
        ("trl preference", {"prompt": "Q", "chosen": [GOOD], "rejected": [BAD]}),
        ("trl preference", {"prompt": [ASKED], "chosen": "A", "rejected": "B"}),
        ("trl preference", {key: json.dumps(value) for key, value in PAIR.items()}),
        ("preference", {"instruction": "Q", "input": "", "chosen": "A", "rejected": "B"}),
        ("preference", {"question": "Q", "chosen": "A", "rejected": "B"}),
        (
            "preference",
            {
                "conversations": [{"from": "human", "value": "Q"}],
                "chosen": {"from": "gpt", "value": "A"},
                "rejected": {"from": "gpt", "value": "B"},
            },
        ),
    ],
)
def test_preferences(schema: str, record: dict[str, Any]) -> None:
    made = found(record, "dpo")
    assert made.schema == schema
    assert {key: made.record[key] for key in PAIR} == PAIR
    assert isinstance(parse_pair(made.record), Pair)


def test_a_prompt_of_several_messages_comes_first() -> None:
    asked = [SYSTEM, ASKED, GOOD, {"role": "user", "content": "And?"}]
    made = found({"prompt": asked, "chosen": [GOOD], "rejected": [BAD]}, "dpo").record
    assert made == {"chosen": [*asked, GOOD], "rejected": [*asked, BAD]}
    made = found({"system": "S", "prompt": "Q", "chosen": "A", "rejected": "B"}, "dpo").record
    assert made == {"chosen": [SYSTEM, ASKED, GOOD], "rejected": [SYSTEM, ASKED, BAD]}
    made = found({"prompt": [SYSTEM], **PAIR}, "dpo").record
    assert made == {key: [SYSTEM, *talk] for key, talk in PAIR.items()}


@pytest.mark.parametrize(
    ("schema", "record"),
    [
        ("", {"messages": [ASKED]}),
        ("", {**TALK, "family": 3, "verify": True}),
        ("trl prompt-only", {"prompt": "Q"}),
        ("trl prompt-only", {"prompt": [ASKED]}),
        ("questions", {"instruction": "Q", "input": "", "output": "A"}),
        ("ShareGPT", {"conversations": [{"from": "human", "value": "Q"}]}),
    ],
)
def test_prompts(schema: str, record: dict[str, Any]) -> None:
    made = found({**record, "gt": ["4"]}, "prompts")
    assert made.schema == schema and made.record["gt"] == ["4"]
    assert (made.record.get("messages") or made.record["conversations"])[0] == ASKED


@pytest.mark.parametrize(
    ("data_set", "record", "why"),
    [
        ("sft", {"question": "Q", "answer": "A", "response": "B"}, "`response` and `answer` may each be the answer"),
        (
            "sft",
            {"instruction": "Q", "prompt": "P", "output": "B"},
            "`instruction` and `prompt` may each be the question",
        ),
        ("sft", {"question": "Q", "context": "C", "answer": "A"}, "how `question` and `context` make one question"),
        (
            "sft",
            {"a_talk": [ASKED, GOOD], "b_talk": [ASKED, BAD]},
            "`a_talk` and `b_talk` may each be the conversation",
        ),
        ("dpo", {"chosen": "A", "rejected": "B"}, "answers only"),
        ("dpo", {"chosen": [GOOD], "rejected": [BAD]}, "answers only"),
        ("prompts", {"prompt": "Q", "question": "R"}, "may each be the question"),
    ],
)
def test_what_may_be_meant_in_two_ways_is_not_guessed(data_set: str, record: dict[str, Any], why: str) -> None:
    with pytest.raises(UnclearError, match=why):
        schemas.recognise(record, data_set)


@pytest.mark.parametrize(
    ("data_set", "record"),
    [
        ("pretrain", {"content": "x"}), ("sft", {"text": "x"}), ("sft", {"instruction": "x"}), ("sft", PAIR),
        ("sft", {"question": "Q", "choices": ["a"], "answer": 0}), ("dpo", TALK), ("dpo", {"chosen": "A"}),
        ("prompts", {"text": "x"}), ("sft", {}),
    ],
)  # fmt: skip
def test_other_keys_are_not_known(data_set: str, record: dict[str, Any]) -> None:
    assert schemas.recognise(record, data_set) is None
