"""What a teacher is asked: what makes a prompt unusable, what does not, and how many may be."""

import json
from pathlib import Path
from typing import Any

import pytest

from minimind import prompts
from minimind.chat import ConversationError
from minimind.prompts import Prompt, PromptsError

CALL = {"name": "add", "arguments": {"x": "1+2"}}
ASKED = [{"role": "user", "content": "What is a river?"}]


def write(folder: Path, *records: Any) -> Path:
    text = "".join(record if isinstance(record, str) else json.dumps(record) + "\n" for record in records)
    (folder / "0.jsonl").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    "columns",
    [
        {"family": 3, "verify": True},
        {"family": None, "verify": None},
        {"family": ["a"], "verify": "by hand"},
        {"family": "a\nb", "verify": {"method": "by hand"}},
        {"messages": 7, "verify": ["x"], "id": "x", "prompt": "What else?", "answer": None},
    ],
)
def test_columns_of_one_s_own_do_not_make_a_prompt_unusable(tmp_path: Path, columns: dict[str, Any]) -> None:
    ((_, prompt),) = prompts.read(write(tmp_path, {"conversations": ASKED, **columns}))
    assert isinstance(prompt, Prompt) and (prompt.verify, prompt.family) == (None, "all")
    assert prompt.conversation.messages == ASKED


def test_a_specification_and_a_family_of_ours_are_taken(tmp_path: Path) -> None:
    spec = {"kind": "exact", "value": "rose"}
    call = '<tool_call>{"name": "add", "arguments": {}}</tool_call>'
    talk = [*ASKED, {"role": "assistant", "content": call}, {"role": "tool", "content": "3"}]
    ((_, prompt),) = prompts.read(write(tmp_path, {"messages": talk, "verify": spec, "family": "colour"}))
    assert isinstance(prompt, Prompt) and (prompt.verify, prompt.family) == (spec, "colour")
    assert prompt.conversation.messages[1]["tool_calls"] == [{"name": "add", "arguments": {}}]


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ({"prompt": "What is a river?"}, "has neither `messages` nor `conversations`, a list, but `prompt`: `map`"),
        ({"conversations": "What is a river?"}, "neither `messages` nor `conversations`"),
        ({"conversations": ASKED, "verify": {"kind": "exactly", "value": "x"}}, "`verify` can't be used"),
        ({"conversations": [{"role": "assistant", "content": "Hi."}]}, "empty"),
        ({"conversations": [{"role": "user", "content": " "}]}, "asks nothing"),
        ({"conversations": [{"role": "bot", "content": "x"}]}, "the role is 'bot'"),
        ([], "is no JSON object"),
        ("{\n", "is not JSON"),
    ],
)
def test_what_can_t_be_asked_is_named(tmp_path: Path, record: Any, says: str) -> None:
    ((place, error),) = prompts.read(write(tmp_path, record))
    assert place == "0.jsonl:1" and isinstance(error, ConversationError) and says in str(error)


def test_too_many_that_can_t_be_asked_fail_with_the_first(tmp_path: Path) -> None:
    folder = write(tmp_path, *[{"prompt": "?"}] * 4, {"messages": ASKED})
    found = prompts.inspect(folder)
    found.check("pack.max_quarantine_share", 0.8)
    with pytest.raises(PromptsError) as caught:
        found.check("pack.max_quarantine_share", 0.01)
    said = str(caught.value)
    assert said.startswith(
        "prompts: 4 of 5 bring no answer to learn from (4 bad prompt), more than pack.max_quarantine"
    )
    assert said.count("0.jsonl:") == 3 and "0.jsonl:1: bad prompt: has neither `messages`" in said


@pytest.mark.parametrize(
    ("spec", "text", "finished", "verdict"),
    [
        (None, "anything", True, "unverified"),
        (None, "anything", False, "unfinished"),
        (None, "<think>still", True, "empty"),
        ({"kind": "contains", "value": "Paris", "without": ["Rome"]}, "It is Paris.", True, "accepted"),
        ({"kind": "contains", "value": "Paris", "without": ["Rome"]}, "Paris or Rome", True, "wrong"),
        ({"kind": "refusal", "value": ["I do not know"]}, "I do not know that.", True, "accepted"),
        ({"kind": "call", "value": CALL}, "3", True, "wrong"),
    ],
)
def test_judging(spec: dict[str, Any] | None, text: str, finished: bool, verdict: str) -> None:
    assert prompts.judge(spec, text, finished) == verdict
