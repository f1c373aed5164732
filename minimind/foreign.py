"""Chat templates of others: rendered as transformers renders them, and their text as token ids.

Such a template writes its markers from expressions, so its text does not tell a marker of its own from one that stands
in a message. It is therefore rendered twice where a message holds a character that markers begin or end with: as it
is, and with a placeholder for each of those characters. If both give the same text, the template looks at none of
them, and every marker in the second is the template's own. Where they differ a warning says so, and markers in
messages count, as they do in transformers.
"""

import datetime
import json
import re
import sys
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

from tokenizers import Tokenizer

from minimind import sandbox
from minimind.errors import UserError

FIRST_PLACEHOLDER = 0xFDD0  # Unicode's noncharacters come first, for no text should hold one


class ForeignTemplateError(UserError):
    """A chat template that can't be used, or that refuses a conversation; the message says why."""


def _tojson(value: object, ensure_ascii: bool = False, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)


class ForeignTemplate:
    """A chat template with the tokenizer that its text is for. Raises ForeignTemplateError if it can't be read.

    names: `bos_token` and its kin, which templates may write.
    """

    def __init__(self, source: str, tokenizer: Tokenizer, names: Mapping[str, str]):
        environment = sandbox.Environment(
            trim_blocks=True, lstrip_blocks=True, extensions=[sandbox.Generation, "jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _tojson
        environment.globals |= {
            "raise_exception": sandbox.refuse,
            "strftime_now": lambda form: datetime.datetime.now().strftime(form),
        }
        try:
            self.template = environment.from_string(source)
        except sandbox.FAULTS as error:
            raise ForeignTemplateError(f"the chat template can't be read: {sandbox.describe(error)}") from error
        self.names = dict(names)
        # Runs of blanks, which some tokenizers have among the added tokens, are no markers.
        self.tokenizer, described = tokenizer, json.loads(tokenizer.to_str())
        markers = [entry for entry in described["added_tokens"] if entry["content"].strip()]
        described["added_tokens"] = [entry for entry in described["added_tokens"] if entry not in markers]
        self.plain = Tokenizer.from_str(json.dumps(described))
        self.ids: dict[str, int] = {entry["content"]: entry["id"] for entry in markers}
        longest_first = sorted(self.ids, key=len, reverse=True)
        self.cut = re.compile(f"({'|'.join(map(re.escape, longest_first))})" if self.ids else "(?!)")
        self.edges = frozenset(character for token in self.ids for character in (token[0], token[-1]))
        self.warned = False

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = False,
        enable_thinking: bool | None = None,
    ) -> str:
        """The conversation as text. Raises ForeignTemplateError with what the template says of it."""
        # Qwen3 and MiniMind call the switch differently, and both ask whether it is defined.
        switches = (
            {} if enable_thinking is None else dict.fromkeys(("enable_thinking", "open_thinking"), enable_thinking)
        )
        try:
            return self.template.render(
                messages=[_openai(message) for message in messages],
                tools=[_wrapped(tool) for tool in tools] if tools else None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **self.names,
                **switches,
            )
        except sandbox.FAULTS as error:
            said = sandbox.describe(error)
            raise ForeignTemplateError(f"the model's chat template refuses this conversation: {said}") from error

    def encode(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = False,
        enable_thinking: bool | None = None,
    ) -> list[int]:
        """Token ids of the conversation, those of transformers unless a message holds what looks like a marker.

        Raises ForeignTemplateError.
        """
        text = self.render(messages, tools, add_generation_prompt, enable_thinking)
        said = json.dumps([list(messages), tools], ensure_ascii=False)
        if self.edges.isdisjoint(_texts(messages)) and self.edges.isdisjoint(_texts(tools)):
            return self._whole(text)
        free = (chr(code) for code in count(FIRST_PLACEHOLDER) if chr(code) not in said and chr(code) not in self.edges)
        away = dict(zip(sorted(self.edges), free, strict=False))
        back = str.maketrans({placeholder: character for character, placeholder in away.items()})
        there = str.maketrans(away)
        try:
            kept = self.render(_mapped(messages, there), _mapped(tools, there), add_generation_prompt, enable_thinking)
        except ForeignTemplateError:
            kept = ""
        ids = self._pieces(kept, None) if kept.translate(back) == text else None
        if ids is not None and ids == self._whole(kept):  # so this tokenizer may be asked piece by piece
            ids = self._pieces(kept, back)
            if ids is not None:
                return ids
        if not self.warned:
            self.warned = True
            print(
                "warning: a message holds what this model's chat template or tokenizer may take for a marker, and it "
                "can't be shown that it does not: it may act as one",
                file=sys.stderr,
            )
        return self._whole(text)

    def stop(self) -> int | None:
        """The marker that ends an answer, None where the template writes none."""
        answer = "0" * 12
        try:
            text = self.render([{"role": "user", "content": "1"}, {"role": "assistant", "content": answer}])
        except ForeignTemplateError:
            return None
        found = self.cut.search(text.rpartition(answer)[2])
        return self.ids[found[0]] if found and answer in text else None

    def _whole(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def _pieces(self, text: str, back: dict[int, str] | None) -> list[int] | None:
        """Ids of the text cut at markers, what stands between them translated; None if that makes a marker."""
        ids: list[int] = []
        markers = set(self.ids.values())
        for number, piece in enumerate(self.cut.split(text)):
            if number % 2:
                ids.append(self.ids[piece])
                continue
            found = self.plain.encode(piece if back is None else piece.translate(back), add_special_tokens=False).ids
            if not markers.isdisjoint(found):
                return None
            ids += found
        return ids


def _openai(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message of ours with its calls as most templates read them."""
    calls = message.get("tool_calls")
    if not calls:
        return dict(message)
    return {**message, "tool_calls": [call if "function" in call else _wrapped(call) for call in calls]}


def _wrapped(function: Mapping[str, Any]) -> dict[str, Any]:
    return dict(function) if "function" in function else {"type": "function", "function": dict(function)}


def _mapped(value: Any, table: dict[int, str]) -> Any:
    """A value with every text in it translated; roles and kinds stay, which templates ask for by name."""
    if isinstance(value, str):
        return value.translate(table)
    if isinstance(value, Mapping):
        return {
            key if key in ("role", "type", "function") else _mapped(key, table): _mapped(entry, table)
            for key, entry in value.items()
        }
    return [_mapped(entry, table) for entry in value] if isinstance(value, list | tuple) else value


def _texts(value: Any) -> str:
    """Every text within a value, joined."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return "".join(map(_texts, [*value.keys(), *value.values()]))
    return "".join(map(_texts, value)) if isinstance(value, list | tuple) else ""
