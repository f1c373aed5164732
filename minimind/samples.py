"""A few items of a benchmark as people read them: what was asked, what would have been right, what each model wrote."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from minimind import specification

Item = dict[str, Any]


class Answer(NamedTuple):
    """What a checkpoint made of an item, whether it was right, and whether it was cut at the limit of tokens."""

    correct: bool
    output: str
    cut: bool


@dataclass(frozen=True)
class Sample:
    """One item of the benchmark and each checkpoint's answer."""

    family: str
    id: str
    language: str
    messages: list[tuple[str, str]]  # (role, text)
    expected: str
    answers: dict[str, Answer]  # by checkpoint


def read_items(benchmark: Path) -> dict[str, Item]:
    """The items of every file of the benchmark, by id; lines that are none are passed over."""
    found = {}
    for path in sorted(benchmark.glob("*.jsonl")):
        for line in path.read_bytes().split(b"\n"):
            try:
                item = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(item, dict) and isinstance(item.get("id"), str):
                found[item["id"]] = item
    return found


def choose(
    families: Sequence[str], answers: Mapping[str, Mapping[tuple[str, str], Answer]], items: Mapping[str, Item]
) -> list[Sample]:
    """One item of each family, the languages by turns, drawn by a hash of its id: neither by hand nor by score.

    answers: of each checkpoint, by (family, id). Families of which the first checkpoint has answered no item are left
    out.
    """
    samples = []
    first = next(iter(answers.values()), {})
    for turn, family in enumerate(families):
        shared = [id for name, id in first if name == family and id in items]
        languages = sorted({_language(items[id]) for id in shared})
        drawn = [id for id in shared if _language(items[id]) == languages[turn % len(languages)]]
        if not drawn:
            continue
        id = min(drawn, key=lambda id: hashlib.sha256(id.encode()).digest())
        own = {checkpoint: given[family, id] for checkpoint, given in answers.items() if (family, id) in given}
        item = items[id]
        samples.append(Sample(family, id, _language(item), _messages(item), expected(item, family), own))
    return samples


def expected(item: Item, family: str) -> str:
    """What would have been right in this family, for people to read."""
    if item["kind"] == "choice":
        return str(item["choices"][item["answer"]]).strip()
    sampled = item.get("sampled", {})
    right = specification.expected(sampled["verify"] if sampled.get("family") == family else item["verify"])
    if item["kind"] == "tool":
        return f"{specification.expected({'kind': 'call', 'value': item['call']})}, then {right}"
    return right


def _language(item: Item) -> str:
    return str(item.get("language", ""))


def _messages(item: Item) -> list[tuple[str, str]]:
    """What the model was given, as (role, text)."""
    if item["kind"] == "choice":
        choices = " | ".join(choice.strip() for choice in item["choices"])
        return [("text", item["context"]), ("choices", choices)]
    messages = []
    for message in item["messages"]:
        text = message.get("content") or ""
        if calls := message.get("tool_calls"):
            text += calls if isinstance(calls, str) else json.dumps(calls, ensure_ascii=False)
        messages.append((message["role"], text))
    return messages
