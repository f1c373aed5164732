"""Conversations: MiniMind's schema → text → token ids and what is to be learned of them.

What a message says can never act as a marker. The template is rendered with every value replaced by a placeholder,
so that markers are recognised in the template's own text only; values are put back afterwards and encoded by a
tokenizer that knows no markers. What is learned are the template's `{% generation %}` blocks.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from jinja2 import nodes, pass_context
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from numpy.typing import NDArray

from minimind import encoding, lossless, sandbox, tokenizer
from minimind import messages as forms
from minimind.errors import UserError
from minimind.foreign import ForeignTemplate, ForeignTemplateError
from minimind.tokenizer import CHAT_TEMPLATE, EOS, SPECIAL_TOKENS

Said = TypeVar("Said")

ROLE_TOKENS = ("bos_token", "eos_token", "pad_token", "unk_token")  # which templates may write
NO_STOP = -1
FEW_TEXTS = 64  # fewer are encoded sooner than the faster way is made ready
ROLES = ("system", "user", "assistant", "tool")


class ConversationError(ValueError):
    """Messages that are no conversation; the text names the message and what is wrong with it."""


@dataclass(frozen=True)
class Conversation:
    """Messages and tools as the template reads them: JSON strings parsed, unknown keys gone.

    unlearned: which answers, counted from 0, are context only.
    """

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None = None
    enable_thinking: bool | None = None
    unlearned: frozenset[int] = frozenset()

    @classmethod
    def of(cls, messages: object, tools: object = None, enable_thinking: bool | None = None) -> "Conversation":
        """Check messages in MiniMind's or OpenAI's schema and bring them into one form. Raises ConversationError.

        A message is {"role", "content", "reasoning_content"?, "tools"? (on a system message), "tool_calls"?}. Tools,
        tool calls and the calls' arguments may be values or JSON text. Of OpenAI's forms the roles `developer` and
        `function`, `function_call` and content in parts of text are read too; arguments that are "", null or missing
        are none.
        """
        if not isinstance(messages, list) or not messages:
            raise ConversationError("the messages are no list, or an empty one")
        checked = []
        for number, message in enumerate(messages, 1):
            try:
                checked.append(_message(message))
                own_tools = message.get("tools") if checked[-1]["role"] == "system" else None
            except ConversationError as error:
                raise ConversationError(f"message {number}: {error}") from None
            if own_tools and tools:
                raise ConversationError(f"message {number}: a second list of tools")
            tools = own_tools or tools
        return cls(checked, _objects(tools, "tools") or None, enable_thinking)

    def thinks(self) -> bool:
        """Whether any answer comes with a thought."""
        answers = [message for message in self.messages if message["role"] == "assistant"]
        return any("reasoning_content" in m or m["content"].lstrip().startswith("<think>") for m in answers)


def _message(message: object) -> dict[str, Any]:
    if not isinstance(message, dict):
        raise ConversationError("is no JSON object")
    role = message.get("role")
    role = forms.ALIASES.get(role, role) if isinstance(role, str) else role
    if role not in ROLES:
        raise ConversationError(f"the role is {role!r}, expected one of {', '.join(ROLES)}")
    calls = [_call(call) for call in _objects(forms.calls(message), "tool_calls")] if role == "assistant" else []
    try:
        content = forms.joined(message.get("content"))
    except ValueError as error:
        raise ConversationError(str(error)) from None
    if content is None and role == "assistant":
        content = ""
    reasoning = (message.get("reasoning_content") or "") if role == "assistant" else ""
    for name, text in (("content", content), ("reasoning_content", reasoning)):
        if not isinstance(text, str):
            raise ConversationError(f"the {name} is {type(text).__name__}, expected text")
        _encodable(text)
    checked: dict[str, Any] = {"role": role, "content": content}
    if reasoning.strip():
        checked["reasoning_content"] = reasoning
    if calls:
        checked["tool_calls"] = calls
    return checked


def _call(call: dict[str, Any]) -> dict[str, Any]:
    function = call.get("function") or call
    name, arguments = (function.get("name"), function.get("arguments")) if isinstance(function, dict) else (None, None)
    try:
        arguments = forms.arguments(arguments)
    except ValueError as error:
        raise ConversationError(f"the arguments of a tool call are not JSON ({error})") from None
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise ConversationError("a tool call wants a name and an object of arguments")
    _writable(arguments, "arguments of a tool call")
    return {"name": name, "arguments": arguments}


def _objects(value: object, name: str) -> list[dict[str, Any]]:
    """A list of JSON objects, given as such or as JSON text; nothing is an empty list."""
    try:
        parsed = lossless.loads(value) if isinstance(value, str) and value.strip() else value
    except ValueError as error:
        raise ConversationError(f"the {name} are not JSON ({error})") from None
    if not parsed or (isinstance(parsed, str) and not parsed.strip()):
        return []
    if not isinstance(parsed, list) or not all(isinstance(entry, dict) for entry in parsed):
        raise ConversationError(f"the {name} are no list of JSON objects")
    _writable(parsed, name)
    return parsed


def _writable(value: object, name: str) -> None:
    if lossless.depth(value) > lossless.MAX_DEPTH:
        raise ConversationError(f"the {name} are nested more than {lossless.MAX_DEPTH} levels deep")
    if not lossless.is_strict(value):
        raise ConversationError(f"the {name} hold NaN or Infinity, for which JSON has no word")
    _encodable(lossless.text(value))


def _encodable(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ConversationError("half of a surrogate pair can't be written as UTF-8") from None


class Segment(NamedTuple):
    """A stretch of a rendered conversation: one marker of the template, or text without any."""

    text: str
    special: bool
    learn: bool


# Unicode's noncharacters. Values never meet them: they wait outside until the rendered text has been cut.
VALUE_START, VALUE_END, LEARN_START, LEARN_END = "\ufdd0", "\ufdd1", "\ufdd2", "\ufdd3"
CUT = re.compile(f"({VALUE_START}\\d+{VALUE_END}|{LEARN_START}|{LEARN_END}|{'|'.join(map(re.escape, SPECIAL_TOKENS))})")


class Generation(Extension):
    """The `{% generation %}` block of transformers: its output is what the model is to say."""

    tags = {"generation"}  # noqa: RUF012  (jinja declares it so)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_mark"), [], [], body).set_lineno(line)

    def _mark(self, caller: Callable[[], str]) -> str:
        return f"{LEARN_START}{caller()}{LEARN_END}"


@pass_context
def _set_aside(context: Context, value: object) -> str:
    """Stands in for every value that the template prints; the value itself goes into the render's `values`."""
    values, text = context["values"], str(value)
    if isinstance(context.environment, sandbox.Environment):
        context.environment.grow(len(text))
    values.append(text)
    return f"{VALUE_START}{len(values) - 1}{VALUE_END}"


def _raise(message: str) -> None:
    raise TemplateError(message)


class Environment(ImmutableSandboxedEnvironment):
    """jinja's, with a shorter way to the values of dicts: that is most of what a template does."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        if type(obj) is dict and attribute not in _DICT_ATTRIBUTES:
            return obj[attribute] if attribute in obj else self.undefined(obj=obj, name=attribute)
        return super().getattr(obj, attribute)


_DICT_ATTRIBUTES = frozenset(dir(dict))  # jinja finds these first


PROBE: list[dict[str, Any]] = [
    {"role": "user", "content": ""},
    {"role": "assistant", "content": "", "tool_calls": [{"name": "f", "arguments": {}}]},
    {"role": "tool", "content": ""},
    {"role": "assistant", "content": "", "reasoning_content": "a"},
]
"""What a template is tried with: every marker that it may write, none in a message."""


class Template:
    """A chat template, rendered without transformers.

    Raises ValueError if its markers stand in expressions, and sandbox.FAULTS if it can't be read.
    """

    def __init__(self, source: str):
        kind = Environment if source == CHAT_TEMPLATE else sandbox.Environment  # the limits take as long as rendering
        environment = kind(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[Generation, "jinja2.ext.loopcontrols"],
            finalize=_set_aside,
        )
        environment.filters["tojson"] = lossless.text
        environment.globals["raise_exception"] = _raise
        self.template = environment.from_string(source)
        probes = [self.segments(Conversation(PROBE[:size]), add_generation_prompt=True) for size in (1, len(PROBE))]
        if not probes[0][0].special or any(
            CUT.search(text) for probe in probes for text, special, _ in probe if not special
        ):
            raise ValueError("the chat template writes its markers from expressions: write them as the template's text")

    def segments(self, conversation: Conversation, add_generation_prompt: bool = False) -> list[Segment]:
        """The rendered conversation in pieces, none empty. Text is cut at markers and where learning starts or ends.

        Raises UserError if some answers are not to be learned and the template does not mark each of them.
        """
        values: list[str] = []
        try:
            skeleton = self.template.render(
                messages=conversation.messages,
                tools=conversation.tools,
                add_generation_prompt=add_generation_prompt,
                enable_thinking=conversation.enable_thinking,
                values=values,
            )
        except sandbox.FAULTS as error:
            raise ConversationError(f"the chat template can't write it: {sandbox.describe(error)}") from error
        segments: list[Segment] = []
        learn, text = False, ""
        answer = -1  # the one that was begun last
        for piece in [*CUT.split(skeleton), LEARN_END]:
            special = piece in SPECIAL_TOKENS
            if piece.startswith(VALUE_START):
                text += values[int(piece[1:-1])]
            elif special or piece in (LEARN_START, LEARN_END):
                if text:
                    segments.append(Segment(text, False, learn))
                if special:
                    segments.append(Segment(piece, True, learn))
                else:
                    answer += piece == LEARN_START
                    learn = piece == LEARN_START and answer not in conversation.unlearned
                text = ""
            else:
                text += piece
        answers = sum(message["role"] == "assistant" for message in conversation.messages)
        if conversation.unlearned and answer + 1 != answers:
            raise UserError(
                f"the chat template has {answer + 1} {{% generation %}} blocks for {answers} answers, so that none of "
                "them can be left out of what is learned: take the pipeline's own template"
            )
        return segments


class Chat:
    """Conversations in the tokens of one model. `folder` holds its tokenizer: `data/tokenizer` or a checkpoint.

    Messages and tools are what `Conversation.of` takes; every method raises ConversationError if they are none.
    Raises UserError for a folder without a chat template, or with one that can't be read.

    why_foreign: why the template is rendered as it is, without masks, so that no model can be trained with it; empty
    for templates of our kind.
    """

    def __init__(self, folder: Path):
        self.tokenizer = tokenizer.read(folder)
        self.text_tokenizer = tokenizer.plain(self.tokenizer)
        self.text_tokenizer.post_processor = None  # of an imported tokenizer, it may put a marker before every text
        self.why_foreign, self.stop = "", EOS
        path = folder / "tokenizer_config.json"
        described = tokenizer.read_config(folder)
        source = described.get("chat_template")
        if source is None:
            raise UserError(f"{path} has no chat_template, by which conversations are written")
        try:
            tokenizer.load(folder)
            self._template = Template(source)
        except sandbox.FAULTS as error:
            self.why_foreign = sandbox.describe(error)
            names = {role: described[role] for role in ROLE_TOKENS if isinstance(described.get(role), str)}
            try:
                self._foreign = ForeignTemplate(source, self.tokenizer, names)
            except ForeignTemplateError as error:
                raise UserError(f"{path}: {error}") from error
            end = self._foreign.stop()
            named = self.tokenizer.token_to_id(names.get("eos_token", ""))
            self.stop = end if end is not None else NO_STOP if named is None else named

    @property
    def template(self) -> "Template":
        """The template that tells markers from text and answers from the rest. Raises UserError if it is foreign."""
        if self.why_foreign:
            raise UserError(f"what is to be learned of a conversation can't be told: {self.why_foreign}")
        return self._template

    def render(
        self,
        messages: Sequence[dict[str, Any]],
        tools: object = None,
        add_generation_prompt: bool = False,
        enable_thinking: bool | None = None,
    ) -> str:
        """The conversation as text, markers included. To encode it, use `encode` or `prompt`, never the text."""
        conversation = Conversation.of(list(messages), tools, enable_thinking)
        if self.why_foreign:
            return self._said(self._foreign.render, conversation, add_generation_prompt)
        return "".join(segment.text for segment in self.template.segments(conversation, add_generation_prompt))

    def encode(
        self, messages: Sequence[dict[str, Any]], tools: object = None, enable_thinking: bool | None = None
    ) -> tuple[list[int], list[int]]:
        """Token ids of the whole conversation, and 1 for each that the model is to say, 0 for the others."""
        return self.encode_batch([Conversation.of(list(messages), tools, enable_thinking)])[0]

    def prompt(
        self, messages: Sequence[dict[str, Any]], tools: object = None, enable_thinking: bool | None = None
    ) -> list[int]:
        """Token ids up to where the next answer begins. `encode` with that answer begins with the same ids."""
        conversation = Conversation.of(list(messages), tools, enable_thinking)
        if self.why_foreign:
            return self._said(self._foreign.encode, conversation, True)
        return self._encode([self.template.segments(conversation, add_generation_prompt=True)])[0][0]

    def _said(self, say: Callable[..., Said], conversation: Conversation, add_generation_prompt: bool) -> Said:
        """What a method of the foreign template makes of a conversation."""
        try:
            return say(conversation.messages, conversation.tools, add_generation_prompt, conversation.enable_thinking)
        except ForeignTemplateError as error:
            raise ConversationError(str(error)) from error

    def encode_batch(self, conversations: Iterable[Conversation]) -> list[tuple[list[int], list[int]]]:
        """`encode` of many conversations."""
        return self._encode([self.template.segments(conversation) for conversation in conversations])

    def encode_arrays(self, conversations: Iterable[Conversation]) -> "Arrays":
        """The same as arrays, for many more."""
        return self._arrays([self.template.segments(conversation) for conversation in conversations])

    def encode_texts(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of plain texts; markers within them are ordinary characters."""
        if len(texts) < FEW_TEXTS:
            return [self.text_tokenizer.encode(text).ids for text in texts]
        return self._encode_many(texts)

    @cached_property
    def _encode_many(self) -> encoding.Encode:
        return encoding.encoder(self.text_tokenizer)

    def _encode(self, rendered: list[list[Segment]]) -> list[tuple[list[int], list[int]]]:
        arrays = self._arrays(rendered)
        ids, learn, ends = arrays.ids.tolist(), arrays.learn.tolist(), arrays.lengths.cumsum().tolist()
        return [(ids[start:end], learn[start:end]) for start, end in zip([0, *ends], ends, strict=False)]

    def _arrays(self, rendered: list[list[Segment]]) -> "Arrays":
        # Each text is encoded once, and a conversation put together from their numbers; the first are the markers.
        numbers = {token: number for number, token in enumerate(SPECIAL_TOKENS)}
        texts = {segment.text: None for segments in rendered for segment in segments if not segment.special}
        places = {text: number for number, text in enumerate(texts, len(numbers))}
        pieces = [[number] for number in numbers.values()] + self.encode_texts(list(texts))
        used = [(numbers if special else places)[text] for segments in rendered for text, special, _ in segments]
        learn = np.array([learn for segments in rendered for _, _, learn in segments], dtype=np.uint8)
        flat, sizes = flatten(pieces)
        lengths = sizes[used]
        ends = lengths.cumsum()
        ids = flat[np.repeat((sizes.cumsum() - sizes)[used] - (ends - lengths), lengths) + np.arange(lengths.sum())]
        last = np.cumsum([len(segments) for segments in rendered], dtype=np.int64) - 1
        return Arrays(ids, np.repeat(learn, lengths), np.diff(ends[last], prepend=0))


class Arrays(NamedTuple):
    """Token ids of conversations one after the other, 1 for each that is to be learned, and their lengths."""

    ids: NDArray[np.uint32]
    learn: NDArray[np.uint8]
    lengths: NDArray[np.int64]


def flatten(lists: Sequence[Sequence[int]]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Token ids one after the other, and how many each list held."""
    lengths = np.fromiter(map(len, lists), np.int64, len(lists))
    return np.fromiter(chain.from_iterable(lists), np.uint32, int(lengths.sum())), lengths
