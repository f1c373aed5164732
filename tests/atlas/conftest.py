"""A large sample of every data set, made once."""

import json
from typing import Any

import pytest

from minimind.atlas import world

Record = dict[str, Any]

NUM_ITEMS = 12 * 240  # twelve families


@pytest.fixture(scope="session")
def training() -> dict[str, list[Record]]:
    return {name: list(world.generate(name, 20_000, 0)) for name in ("pretrain", "sft", "dpo", "prompts")}


@pytest.fixture(scope="session")
def benchmarks() -> dict[str, list[Record]]:
    return {name: list(world.generate(name, NUM_ITEMS, 0)) for name in ("dev", "test")}


@pytest.fixture(scope="session")
def conversations(training: dict[str, list[Record]]) -> list[list[Record]]:
    """Every list of messages of the training data, prompts included."""
    lists = [record["conversations"] for record in training["sft"]]
    lists += [record[side] for record in training["dpo"] for side in ("chosen", "rejected")]
    return lists + [record["messages"] for record in training["prompts"]]


@pytest.fixture(scope="session")
def corpus(training: dict[str, list[Record]], conversations: list[list[Record]]) -> str:
    """All training text, thoughts and calls included; each text ends with a newline."""
    texts = [record["text"] for record in training["pretrain"]]
    for messages in conversations:
        for message in messages:
            texts += [message["content"], message.get("reasoning_content", "")]
            texts += [json.dumps(call, ensure_ascii=False) for call in json.loads(message.get("tool_calls", "[]"))]
    return "\n".join(texts) + "\n"
