import hashlib
import itertools
import json
from typing import Any

import pytest

from minimind.atlas import world
from minimind.atlas.conversations import WEIGHTS
from minimind.turns import ExhaustedError

GOLDEN = {
    "pretrain": "ce82057c5fe5aa44",
    "sft": "197cf9e8f87f9bd5",
    "dpo": "de20cfefbefb7f92",
    "prompts": "8c5afe088d3264b1",
    "dev": "81fd6f5bcb3773c2",
    "test": "601bb29b113574dd",
}


def digest(name: str, count: int, seed: int) -> str:
    lines = [json.dumps(record, ensure_ascii=False) for record in world.generate(name, count, seed)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


@pytest.mark.parametrize("name", world.NAMES)
def test_records_are_the_same_on_every_machine(name: str) -> None:
    assert digest(name, 240, 7) == GOLDEN[name], "the data changed: if it was meant to, write the new digest here"


@pytest.mark.parametrize("name", world.NAMES)
def test_seeds_differ_and_prefixes_agree(name: str) -> None:
    long = list(world.generate(name, 60, 1))
    assert long[:20] == list(world.generate(name, 20, 1))
    assert long != list(world.generate(name, 60, 2))
    assert len(long) == 60


def test_unknown_names_and_impossible_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="pretrain, sft, dpo, prompts, dev, test"):
        world.generate("atlas", 1, 0)
    with pytest.raises(ExhaustedError, match="heldout"):
        list(world.generate("test", 12 * 1000, 0))


def test_documents_are_short_texts(training: dict[str, list[dict[str, Any]]]) -> None:
    for record in training["pretrain"]:
        assert set(record) == {"text"}
        assert 8 <= len(record["text"].encode()) <= 700
        assert record["text"] == record["text"].strip()


def test_conversations_follow_the_schema(training: dict[str, list[dict[str, Any]]]) -> None:
    for record in training["sft"]:
        messages = record["conversations"]
        roles = [message["role"] for message in messages]
        if roles[0] == "system":
            roles = roles[1:]
        assert roles[0] == "user"
        assert roles[-1] == "assistant"
        follows = {"user": {"assistant"}, "assistant": {"user", "tool"}, "tool": {"assistant"}}
        assert all(second in follows[first] for first, second in itertools.pairwise(roles))
        for message in messages:
            assert set(message) <= {"role", "content", "reasoning_content", "tools", "tool_calls"}
            assert all(isinstance(value, str) for value in message.values())
            if "tool_calls" in message:
                offered = {tool["function"]["name"] for tool in json.loads(messages[0]["tools"])}
                assert {call["name"] for call in json.loads(message["tool_calls"])} <= offered
    assert {record["family"] for record in training["sft"]} == set(WEIGHTS)
    assert any(record["conversations"][0]["role"] == "system" for record in training["sft"])


def test_pairs_share_their_question_and_differ_in_their_answer(training: dict[str, list[dict[str, Any]]]) -> None:
    for record in training["dpo"]:
        (asked, chosen), (asked_again, rejected) = record["chosen"], record["rejected"]
        assert asked == asked_again
        assert asked["role"] == "user"
        assert chosen["role"] == rejected["role"] == "assistant"
        assert chosen["content"] != rejected["content"]


def test_both_languages_have_their_half(training: dict[str, list[dict[str, Any]]]) -> None:
    for records in training.values():
        chinese = sum(any("\u4e00" <= c <= "\u9fff" for c in json.dumps(r, ensure_ascii=False)) for r in records)
        assert 0.45 < chinese / len(records) < 0.65  # English conversations may hold a Chinese answer
