"""Answers that must have a form: a JSON schema, a regular expression, or a call of one of given tools.

The grammar is kept by llguidance, which knows which tokens can go on at every moment, also across their borders.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from minimind.errors import UserError
from minimind.tokenizer import SPECIAL_TOKENS

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

# JSON as the chat template writes it, which is what models here have learned.
WRITING = {"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False}

NAMED = ("properties", "patternProperties", "dependentSchemas", "$defs", "definitions")  # schemas by names of any kind
DATA = ("const", "enum", "default", "examples")  # no schemas


@dataclass(frozen=True)
class Form:
    """What an answer must look like, apart from any tokenizer."""

    grammar: str
    description: str
    has_markers: bool  # of thoughts or calls


class Constraint:
    """Where one answer stands in its grammar."""

    def __init__(self, matcher: "LLMatcher", vocab_size: int):
        self._matcher, self.vocab_size = matcher, vocab_size
        self._bits = np.zeros((1, (vocab_size + 31) // 32), dtype=np.int32)

    @property
    def complete(self) -> bool:
        """Whether nothing can follow."""
        return bool(self._matcher.is_stopped())

    def allowed(self) -> Tensor:
        """The tokens that can come next, bool (V,); the end of the answer among them where it may end."""
        from llguidance.numpy import fill_next_token_bitmask

        fill_next_token_bitmask(self._matcher, self._bits)
        self._check()
        bits = np.unpackbits(self._bits.view(np.uint8), bitorder="little")[: self.vocab_size]
        return torch.from_numpy(bits).bool()

    def accept(self, token: int) -> None:
        """Go on by a token that is allowed."""
        self._matcher.consume_token(token)
        self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            raise UserError(f"the grammar of the answer is too much for llguidance: {self._matcher.get_error()}")


class Constraints:
    """Maker of constraints for the tokenizer in `folder`, whose answers end with the token `stop`.

    Raises UserError where llguidance is not installed.
    """

    def __init__(self, folder: Path, vocab_size: int, stop: int):
        guidance = _guidance()
        text = (folder / "tokenizer.json").read_text(encoding="utf-8")
        self.tokenizer: LLTokenizer = guidance.LLTokenizer(text, n_vocab=vocab_size, eos_token=stop)
        self.vocab_size = vocab_size

    def make(self, form: Form) -> Constraint:
        """A constraint at the beginning of an answer. Raises UserError if the form can't be read."""
        matcher = _guidance().LLMatcher(self.tokenizer, form.grammar, log_level=0)
        if matcher.is_error():
            raise UserError(f"{form.description} can't be used: {matcher.get_error()}")
        return Constraint(matcher, self.vocab_size)


def schema(value: dict[str, Any] | str, thinking: bool = False) -> Form:
    """JSON that a JSON schema describes; with `thinking`, a thought may come before it. Raises UserError."""
    try:
        grammar = _guidance().LLMatcher.grammar_from_json_schema(value, overrides=WRITING)
    except ValueError as error:
        raise UserError(f"the JSON schema can't be read: {error}") from None
    return Form(_within(grammar, "@answer", thinking), "the JSON schema", thinking)


def regex(pattern: str, thinking: bool = False) -> Form:
    """Text that a regular expression (in the syntax of Rust's regex) matches from beginning to end."""
    grammar = _guidance().LLMatcher.grammar_from_regex(pattern)
    return Form(_within(grammar, "@answer", thinking), f"the regular expression {pattern!r}", thinking)


def call(tools: Sequence[dict[str, Any]], thinking: bool = False) -> Form:
    """Exactly one call of one of `tools`, each {"name", "parameters": JSON schema} or {"function": …}, in its markers.

    Raises UserError.
    """
    choices, parameters = [], {}
    for number, tool in enumerate(tools):
        function = tool.get("function") or tool
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise UserError(f"a tool has no name: {json.dumps(tool, ensure_ascii=False)[:200]}")
        place = f"#/$defs/{number}"
        wanted = _moved(function.get("parameters") or {}, place)
        parameters[str(number)] = {"additionalProperties": False, **wanted, "type": "object"}
        properties = {"name": {"const": function["name"]}, "arguments": {"$ref": place}}
        choices.append(
            {
                "type": "object",
                "properties": properties,
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
        )
    if not choices:
        raise UserError("there is no tool to call: pass `tools`")
    whole = {"$defs": parameters, "anyOf": choices}
    grammar = _guidance().LLMatcher.grammar_from_json_schema(whole, overrides=WRITING)
    opening, closing = _marker("<tool_call>"), _marker("</tool_call>")
    return Form(_within(grammar, f"{opening} @answer {closing}", thinking), "the tools' parameters", True)


def _moved(schema: Any, place: str) -> Any:
    """A JSON schema whose references to itself find it at `place` of a larger one."""
    if isinstance(schema, list):
        return [_moved(entry, place) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    moved: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "$ref" and isinstance(value, str) and value.startswith("#"):
            moved[key] = place + value[1:]
        elif key in NAMED and isinstance(value, dict):
            moved[key] = {name: _moved(part, place) for name, part in value.items()}
        else:
            moved[key] = value if key in DATA else _moved(value, place)
    return moved


def _within(grammar: str, body: str, thinking: bool) -> str:
    """A grammar of llguidance as the part @answer of a larger one."""
    top = f"start: {'thought? ' if thinking else ''}{body}"
    if thinking:
        top += f"\nthought: {_marker('<think>')} /(.|\\n)*/ {_marker('</think>')}"
    answer = json.loads(grammar)["grammars"][0] | {"name": "answer"}
    return json.dumps({"grammars": [{"name": "top", "lark_grammar": top}, answer]})


def _marker(token: str) -> str:
    return f"<[{SPECIAL_TOKENS.index(token)}]>"


def _guidance() -> Any:
    try:
        import llguidance
    except ImportError:
        raise UserError(
            "schemas, regular expressions and required tool calls need the package llguidance: "
            "pip install '.[constraints]'"
        ) from None
    return llguidance
