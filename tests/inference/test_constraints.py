"""What constrained answers may contain, against the library's own matcher and json."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llguidance
import pytest
import torch

from minimind import tokenizer
from minimind.errors import UserError
from minimind.inference import constraints
from minimind.inference.constraints import Constraint, Constraints
from minimind.inference.text import Writer, token_byte_values
from minimind.tokenizer import EOS

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"enum": ["Paris", "巴黎"]},
        "ids": {"type": "array", "items": {"type": "integer"}, "maxItems": 3},
    },
    "required": ["city", "ids"],
    "additionalProperties": False,
}  # fmt: skip
TOOLS = [
    {
        "name": "add",
        "parameters": {"properties": {"expression": {"type": "string", "maxLength": 8}}, "required": ["expression"]},
    },
    {"type": "function", "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}}},
]  # fmt: skip


@pytest.fixture(scope="module")
def maker(tokenizer_folder: Path) -> Constraints:
    return Constraints(tokenizer_folder, tokenizer.load(tokenizer_folder).get_vocab_size(), EOS)


@pytest.fixture(scope="module")
def babble(tokenizer_folder: Path, maker: Constraints) -> Callable[[constraints.Form, int], str]:
    """An answer of this form by somebody who draws from what is allowed, and prefers to end."""
    written = token_byte_values(tokenizer.load(tokenizer_folder))

    def draw(form: constraints.Form, seed: int) -> str:
        constraint, writer = maker.make(form), Writer(written)
        generator = torch.Generator().manual_seed(seed)
        text = ""
        while not constraint.complete:
            allowed = constraint.allowed()
            assert allowed.any()
            token = int(torch.multinomial(allowed.float(), 1, generator=generator))
            if allowed[EOS] or token == EOS:
                break
            constraint.accept(token)
            text += writer.write(token)
        return text + writer.finish()

    return draw


def test_the_mask_is_the_library_s(maker: Constraints, tokenizer_folder: Path) -> None:
    mine = maker.make(constraints.schema(SCHEMA))
    theirs = llguidance.LLMatcher(
        llguidance.LLTokenizer((tokenizer_folder / "tokenizer.json").read_text(), eos_token=EOS),
        llguidance.LLMatcher.grammar_from_json_schema(SCHEMA, overrides=constraints.WRITING),
    )
    for token in tokenizer.load(tokenizer_folder).encode('{"city": "巴黎", "ids": [19, -4]}').ids:
        allowed = mine.allowed()
        assert allowed[token]
        biases = theirs.compute_logit_bias()
        assert allowed.tolist() == [bias > 0 for bias in biases]
        assert all(theirs.validate_tokens([other]) == 1 for other in allowed.nonzero()[:, 0].tolist())
        mine.accept(token)
        theirs.consume_token(token)
    assert mine.complete


def test_json_follows_its_schema(babble: Callable[[constraints.Form, int], str]) -> None:
    for seed in range(20):
        text = babble(constraints.schema(SCHEMA), seed)
        value = json.loads(text)
        assert value.keys() == {"city", "ids"} and value["city"] in ("Paris", "巴黎")
        assert all(isinstance(number, int) for number in value["ids"]) and len(value["ids"]) <= 3
        assert text.startswith('{"city": "')  # written as the chat template writes


def test_text_follows_its_expression(babble: Callable[[constraints.Form, int], str]) -> None:
    pattern = r"(法国|Paris)/[0-9]{1,3}\.[a-c]"
    texts = {babble(constraints.regex(pattern), seed) for seed in range(20)}
    assert len(texts) > 5
    assert all(re.fullmatch(pattern, text) for text in texts)


def test_a_required_call_is_one_call_of_a_tool(babble: Callable[[constraints.Form, int], str]) -> None:
    names = set()
    for seed in range(20):
        text = babble(constraints.call(TOOLS), seed)
        call = json.loads(re.fullmatch("<tool_call>(.*)</tool_call>", text)[1])  # type: ignore[index]
        names.add(call["name"])
        assert call.keys() == {"name", "arguments"}
        if call["name"] == "add":
            assert call["arguments"].keys() == {"expression"} and len(call["arguments"]["expression"]) <= 8
        else:
            assert call["arguments"] == {}
    assert names == {"add", "clock"}


def test_a_tool_s_schema_may_refer_to_parts_of_itself(babble: Callable[[constraints.Form, int], str]) -> None:
    def tool(name: str, point: dict[str, Any]) -> dict[str, Any]:
        const = {"$ref": "#/$defs/point"}  # a property may be called like a keyword
        properties = {"const": const, "next": {"anyOf": [{"$ref": "#/$defs/point"}, {"type": "null"}]}}
        required = ["const", "next"]
        return {"name": name, "parameters": {"$defs": {"point": point}, "properties": properties, "required": required}}

    points = {"letter": {"enum": ["a", "b"]}, "data": {"const": {"$ref": "#/$defs/point"}}}
    names = set()
    for seed in range(20):
        text = babble(constraints.call([tool(name, point) for name, point in points.items()]), seed)
        call = json.loads(re.fullmatch("<tool_call>(.*)</tool_call>", text)[1])  # type: ignore[index]
        allowed = ["a", "b"] if call["name"] == "letter" else [{"$ref": "#/$defs/point"}]
        assert call["arguments"]["const"] in allowed and call["arguments"]["next"] in [*allowed, None]
        names.add(call["name"])
    assert names == set(points)


def test_a_thought_may_come_first(maker: Constraints, tokenizer_folder: Path) -> None:
    words = tokenizer.load(tokenizer_folder)

    def fits(constraint: Constraint, text: str) -> bool:
        for token in words.encode(text).ids:
            if not constraint.allowed()[token]:
                return False
            constraint.accept(token)
        return constraint.complete

    for thinking in (True, False):
        assert fits(maker.make(constraints.regex("[0-9]", thinking)), "<think>\n1 巴黎 }</think>7") == thinking
        assert fits(maker.make(constraints.regex("[0-9]", thinking)), "7")
        call = '<think>x</think><tool_call>{"name": "clock", "arguments": {}}</tool_call>'
        assert fits(maker.make(constraints.call(TOOLS, thinking)), call) == thinking


def test_what_can_not_be_read_is_named(maker: Constraints, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"(?s)the regular expression '\[' can't be used: .*unclosed"):
        maker.make(constraints.regex("["))
    with pytest.raises(UserError, match="the JSON schema can't be used"):
        maker.make(constraints.schema({"type": "number", "minimum": "one"}))
    with pytest.raises(UserError, match="the JSON schema can't be read"):
        constraints.schema("{")
    with pytest.raises(UserError, match="a tool has no name"):
        constraints.call([{"parameters": {}}])
    with pytest.raises(UserError, match="no tool to call"):
        constraints.call([])
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(UserError, match=r"pip install '.\[constraints\]'"):
        constraints.regex("a")
