"""Talking with a checkpoint in the terminal."""

import ast
import contextlib
import dataclasses
import json
import operator
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TextIO

from minimind import config, verify
from minimind.atlas import tools
from minimind.errors import UserError
from minimind.inference.language_model import Message, Model
from minimind.inference.sampling import Sampling
from minimind.model import RopeScaling

CALCULATOR = tools.schema("calculator")  # as the default model has learned it
MAX_CALLS = 4  # of tools in one turn; a model that wants more turns in circles
DIMMED, UNDIMMED = "\033[2m", "\033[0m"
_BEGINNINGS = [marker[:size] for marker in (*verify.THINK, *verify.TOOL_CALL) for size in range(1, len(marker))]
UNSETTLED = re.compile(f"({verify.TOOL_CALL[0]}(?!.*{verify.TOOL_CALL[1]}).*|{'|'.join(_BEGINNINGS)})$", re.DOTALL)
"""At the end of a text: a call that is not whole, or what may be the beginning of a marker."""


class TurnError(ValueError):
    """A turn that is too long for the model; it has not become part of the conversation."""


class Talk:
    """A conversation. `messages` grows with every turn; when it no longer fits the model, the oldest turns leave."""

    def __init__(self, model: Model, sampling: Sampling, system: str = "", calculator: bool = False):
        self.model, self.sampling = model, sampling
        self.tools = [CALCULATOR] if calculator else None
        self.messages: list[Message] = [{"role": "system", "content": system}] if system else []
        self.turns = 0
        self._heard = ""  # of an answer that is coming in

    def say(self, content: str) -> Iterator[str | Message]:
        """Take the user's turn; yields the model's answer, or its tool calls, their results, and then the answer.

        What the model writes comes as text, piece by piece, and then once more as a message. Raises TurnError.
        """
        self.messages.append({"role": "user", "content": content})
        for calls_left in range(MAX_CALLS, -1, -1):
            self._make_room()
            self.turns += 1  # each draws afresh
            options = dataclasses.asdict(self.sampling) | {"seed": self.sampling.seed + self.turns}
            self._heard = ""
            for piece in self.model.stream(self.messages, tools=self.tools, **options):
                self._heard += piece
                yield piece
            answer = verify.message(self._heard)
            self._heard = ""
            self.messages.append(answer)
            yield answer
            if not (self.tools and calls_left and answer.get("tool_calls")):
                return
            for call in answer["tool_calls"]:
                self.messages.append({"role": "tool", "content": use(call)})
                yield self.messages[-1]

    def interrupt(self) -> Message | None:
        """Go on after a turn that was broken off: what was said of the answer stays, and is returned; a turn of which
        nothing was said is forgotten.
        """
        heard, self._heard = self._heard, ""
        if heard.strip():
            self.messages.append({**verify.message(heard), "tool_calls": []})
            return self.messages[-1]
        if self.messages and self.messages[-1]["role"] != "assistant":
            del self.messages[max(i for i, message in enumerate(self.messages) if message["role"] == "user") :]
        return None

    def _make_room(self) -> None:
        room = self.model.max_tokens - (self.sampling.max_new_tokens or 1)
        while (size := len(self.model.chat.prompt(self.messages, self.tools))) > room:
            turns = [i for i, message in enumerate(self.messages) if message["role"] == "user"]
            if len(turns) == 1:
                del self.messages[turns[0] :]
                raise TurnError(f"this makes {size} tokens, but the model has room for {room}: be briefer")
            del self.messages[turns[0] : turns[1]]


def use(call: dict[str, Any]) -> str:
    """The result of a tool call, or what is wrong with it, in the tool's own words."""
    if call["name"] != "calculator":
        return f"error: there is no tool {call['name']}"
    try:
        return calculate(str(call["arguments"].get("expression", "")))
    except ValueError as error:
        return f"error: {error}"


_OPERATIONS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}


def calculate(expression: str) -> str:
    """The value of an expression of numbers, + - * / and brackets. Raises ValueError for anything else."""

    def value(node: ast.AST) -> float:
        match node:
            case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
                return number
            case ast.UnaryOp(op=op, operand=operand) if type(op) in _OPERATIONS:
                return _OPERATIONS[type(op)](value(operand))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATIONS:
                return _OPERATIONS[type(op)](value(left), value(right))
        raise ValueError("only numbers, + - * / and brackets are understood")

    try:
        number = value(ast.parse(expression.strip(), mode="eval").body)
        return str(int(number)) if number == int(number) else f"{number:.10g}"
    except SyntaxError:
        raise ValueError("this is no expression") from None
    except (ArithmeticError, RecursionError, MemoryError):
        raise ValueError("this has no value") from None


class Screen:
    """Messages on a terminal. An answer is shown as it comes in; its calls once it is whole.

    `bare` is for pipes: the answers alone, without the names of who speaks, thoughts, calls and results.
    """

    def __init__(self, stream: TextIO, bare: bool = False):
        self.stream, self.bare = stream, bare
        self._text = self._shown = ""

    def write(self, piece: str) -> None:
        """Show what this piece of an answer adds, as far as it is not yet known to be part of a marker or of a call."""
        self._text += piece
        message = verify.message(UNSETTLED.sub("", self._text)) | {"tool_calls": []}
        if message["content"] or "reasoning_content" in message:
            self._extend(self._drawn(message).removesuffix(UNDIMMED))

    def show(self, message: Message) -> None:
        """Show a message, or what is left of the one that was coming in."""
        if self.bare and (message["role"] != "assistant" or (message.get("tool_calls") and not message["content"])):
            return
        drawn = self._drawn(message)
        if not drawn.startswith(self._shown):  # its parts came in another order than they are shown in
            print(file=self.stream)
            self._shown = ""
        self._extend(drawn)
        print(file=self.stream, flush=True)
        self._text = self._shown = ""

    def _extend(self, drawn: str) -> None:
        if drawn.startswith(self._shown):
            print(drawn[len(self._shown) :], end="", file=self.stream, flush=True)
            self._shown = drawn

    def _drawn(self, message: Message) -> str:
        """The message with its speakers, thoughts and tools dimmed where the terminal can; `bare`, its content."""
        if self.bare:
            return str(message["content"]).rstrip()
        calls = [
            f"{call['name']} {json.dumps(call['arguments'], ensure_ascii=False)}"
            for call in message.get("tool_calls", [])
        ]
        parts = [("thinks", message["reasoning_content"], True)] if "reasoning_content" in message else []
        if message["content"] or not (calls or parts):
            speaker = {"user": "you", "assistant": "model", "tool": "tool"}[message["role"]]
            parts.append((speaker, message["content"], message["role"] == "tool"))
        parts += [("calls", call, True) for call in calls]
        lines = []
        for speaker, text, dim in parts:
            line = f"{speaker:<6} │ {text}".replace("\n", "\n       │ ").rstrip()
            lines.append(f"{DIMMED}{line}{UNDIMMED}" if dim and self.stream.isatty() else line)
        return "\n".join(lines)


def scaling(text: str) -> RopeScaling:
    """Of "4:512": YaRN to 4 times a training length of 512 tokens. Raises UserError."""
    try:
        factor, length = text.split(":")
        return RopeScaling(float(factor), int(length))
    except ValueError as error:
        raise UserError(f"--rope-scaling {text}: expected FACTOR:LENGTH, for example 4:512 ({error})") from None


def main(
    name: str,
    prompts: Sequence[str],
    sampling: Sampling,
    system: str = "",
    calculator: bool = False,
    scaling: RopeScaling | None = None,
    transcript: bool = False,
) -> None:
    """Take `prompts` as the user's turns of one conversation and print it; without any, read them from the terminal.

    `name` is what `Model` takes. `scaling` takes the place of the checkpoint's own. Where the output is no terminal, it
    is the answers alone; with `transcript`, who says what. Ctrl-C ends an answer that was asked for in the terminal,
    not the conversation.

    Raises UserError, TurnError for one of `prompts`, and KeyboardInterrupt where nobody types.
    """
    # Anywhere but in a checkout of ours there is no section, and everything is chosen.
    here = config.PARAMS.is_file() and "runtime" in config.read(config.PARAMS)
    runtime = config.runtime() if here else config.Runtime()
    model = Model(name, device=runtime.device, dtype=runtime.dtype, threads=runtime.threads, rope_scaling=scaling)
    talk, screen = (
        Talk(model, sampling, system, calculator),
        Screen(sys.stdout, not (transcript or sys.stdout.isatty())),
    )
    for content in prompts or _read():
        if prompts:
            screen.show({"role": "user", "content": content})
        try:
            for part in talk.say(content):
                if isinstance(part, str):
                    screen.write(part)
                else:
                    screen.show(part)
        except TurnError as error:
            if prompts:
                raise
            print(error, file=sys.stderr)
        except KeyboardInterrupt:
            if prompts or not sys.stdin.isatty():
                raise
            said = talk.interrupt()
            screen.show({"role": "assistant", "content": "", "tool_calls": [], **(said or {})})
            print("(stopped; the conversation goes on, Ctrl-D ends it)", file=sys.stderr)


def _read() -> Iterator[str]:
    """Lines that the user types, until the end of input or Ctrl-C; empty ones are passed over."""
    if sys.stdin.isatty():
        with contextlib.suppress(ImportError):  # Windows has none, and edits lines by itself
            import readline  # noqa: F401  (gives `input` its editing)
        print("Ctrl-D ends the conversation.")
    while True:
        try:
            line = input("you    │ " if sys.stdin.isatty() else "")
        except (EOFError, KeyboardInterrupt):
            if sys.stdin.isatty():
                print()
            return
        if line.strip():
            yield line
