"""One's own benchmark, or one of ours: what its items are, read and checked.

A split is a file of JSON lines, each an item: a dict with "id", "family", "kind", and by kind what follows;
`docs/benchmark.md` has examples.

- choice: "context", "choices" and "answer", an index: the choice of the largest log-probability per token wins
- generate: "messages", "tools"?, "verify": the greedy answer meets the specification (see `specification`)
- tool: "messages", "tools", "call", "result", "verify": the greedy answer makes exactly this call, and after the
  result has been shown to it the model gives an answer that meets the specification

Besides, "refusals" (phrases that a refusal begins with) and "sampled" ({"family", "verify"}) may stand in an item with
messages, for the families that `score` derives. Other keys are ignored.
"""

import json
from pathlib import Path
from typing import Any

from minimind import specification
from minimind.chat import Conversation
from minimind.errors import UserError

KINDS: dict[str, dict[str, type]] = {
    "choice": {"context": str, "choices": list, "answer": int},
    "generate": {"messages": list, "verify": dict},
    "tool": {"messages": list, "tools": list, "call": dict, "result": str, "verify": dict},
}

TYPES: dict[type, str] = {str: "text", list: "a list", int: "a whole number", dict: "an object"}

Item = dict[str, Any]


class BenchmarkError(UserError):
    """A benchmark that can't be run; the message names the file or the item."""


def read(folder: Path, split: str) -> list[Item]:
    """The items of `folder`/`split`.jsonl, blank lines skipped.

    Raises BenchmarkError naming the first item that can't be run.
    """
    path = folder / f"{split}.jsonl"
    if not path.is_file():
        splits = ", ".join(sorted(other.stem for other in folder.glob("*.jsonl"))) or "none"
        raise BenchmarkError(f"{path} is missing: set evaluate.split to one of the benchmark's splits ({splits})")
    items: list[Item] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            item = _item(line)
        except BenchmarkError as error:
            raise BenchmarkError(f"{path}:{number}: {error}") from None
        if item["id"] in seen:
            raise BenchmarkError(f"{path}:{number}: the id {item['id']} stands there twice, in line {seen[item['id']]}")
        seen[item["id"]] = number
        items.append(item)
    return items


def _item(line: bytes) -> Item:
    try:
        item = json.loads(line.removeprefix(b"\xef\xbb\xbf"))
    except (ValueError, RecursionError) as error:
        raise BenchmarkError(f"is not JSON ({error})") from None
    if not isinstance(item, dict):
        raise BenchmarkError("is no JSON object")
    _check(item)
    return item


def _check(item: Item) -> None:
    kind = item.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise BenchmarkError(f"`kind` is {kind!r}, expected one of {', '.join(KINDS)}")
    for name, expected in {"id": str, "family": str, **KINDS[kind]}.items():
        if name not in item:
            raise BenchmarkError(f"`{name}` is missing, {TYPES[expected]}: {kind} wants {', '.join(KINDS[kind])}")
        if not isinstance(item[name], expected) or isinstance(item[name], bool):
            raise BenchmarkError(f"`{name}` is {item[name]!r}, expected {TYPES[expected]}")
    if kind == "choice":
        if not all(isinstance(choice, str) and choice for choice in item["choices"]):
            raise BenchmarkError("`choices` has one that is empty or no text")
        if not 0 <= item["answer"] < len(item["choices"]):
            raise BenchmarkError(f"`answer` is {item['answer']}, but there are {len(item['choices'])} choices, from 0")
        return
    try:
        Conversation.of(item["messages"], item.get("tools"))
        specification.check(item["verify"])
        if kind == "tool":
            specification.check({"kind": "call", "value": item["call"]})
        if "refusals" in item:
            specification.check({"kind": "refusal", "value": item["refusals"]})
        if "sampled" in item:
            _check_sampled(item["sampled"])
    except ValueError as error:
        raise BenchmarkError(str(error)) from None


def _check_sampled(sampled: object) -> None:
    if not isinstance(sampled, dict) or not isinstance(sampled.get("family"), str):
        raise BenchmarkError(f"`sampled` is {sampled!r}, expected an object with a family and a specification")
    specification.check(sampled.get("verify"))
