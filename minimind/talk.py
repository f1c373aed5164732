"""Talking with a checkpoint in the terminal."""

import ast
import json
import operator
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from minimind import checkpoint, config, hardware, verify
from minimind.atlas import tools
from minimind.chat import Chat
from minimind.errors import UserError
from minimind.generate import generate
from minimind.model import Decoder, RopeScaling
from minimind.tokenizer import EOS

CALCULATOR = tools.schema("calculator")  # as the default model has learned it
MAX_CALLS = 4  # of tools in one turn; a model that wants more turns in circles

Message = dict[str, Any]


class TurnError(ValueError):
    """A turn that is too long for the model; it has not become part of the conversation."""


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn; temperature 0 takes the most probable token each time."""

    max_new_tokens: int = 200
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0


class Talk:
    """A conversation. `messages` grows with every turn; when it no longer fits the model, the oldest turns leave."""

    def __init__(self, model: Decoder, chat: Chat, sampling: Sampling, system: str = "", calculator: bool = False):
        self.model, self.chat, self.sampling = model, chat, sampling
        self.tools = [CALCULATOR] if calculator else None
        self.messages: list[Message] = [{"role": "system", "content": system}] if system else []
        self.turns = 0

    def say(self, content: str) -> Iterator[Message]:
        """Take the user's turn; yields the model's answer, or its tool calls, their results, and then the answer.

        Raises TurnError.
        """
        self.messages.append({"role": "user", "content": content})
        for calls_left in range(MAX_CALLS, -1, -1):
            answer = verify.message(self._generate())
            self.messages.append(answer)
            yield answer
            if not (self.tools and calls_left and answer.get("tool_calls")):
                return
            for call in answer["tool_calls"]:
                self.messages.append({"role": "tool", "content": use(call)})
                yield self.messages[-1]

    def _generate(self) -> str:
        sampling = self.sampling
        self.turns += 1  # each draws afresh
        output = generate(
            self.model, [self._prompt()], max_new_tokens=sampling.max_new_tokens, stop=EOS,
            temperature=sampling.temperature, top_k=sampling.top_k, top_p=sampling.top_p,
            seed=sampling.seed + self.turns,
        )[0]  # fmt: skip
        return self.chat.tokenizer.decode(output, skip_special_tokens=True)

    def _prompt(self) -> list[int]:
        room = self.model.config.max_position_embeddings - self.sampling.max_new_tokens
        while len(prompt := self.chat.prompt(self.messages, self.tools)) > room:
            turns = [i for i, message in enumerate(self.messages) if message["role"] == "user"]
            if len(turns) == 1:
                del self.messages[turns[0] :]
                raise TurnError(f"this makes {len(prompt)} tokens, but the model has room for {room}: be briefer")
            del self.messages[turns[0] : turns[1]]
        return prompt


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


def show(message: Message, stream: TextIO) -> None:
    """Write a message with its speaker, thoughts and tools dimmed where the terminal can."""
    calls = [
        f"{call['name']} {json.dumps(call['arguments'], ensure_ascii=False)}" for call in message.get("tool_calls", [])
    ]
    lines = [("thinks", message["reasoning_content"], True)] if "reasoning_content" in message else []
    if message["content"] or not calls:
        speaker = {"user": "you", "assistant": "model", "tool": "tool"}[message["role"]]
        lines.append((speaker, message["content"], message["role"] == "tool"))
    lines += [("calls", call, True) for call in calls]
    for speaker, text, dim in lines:
        line = f"{speaker:<6} │ {text}".replace("\n", "\n       │ ").rstrip()
        print(f"\033[2m{line}\033[0m" if dim and stream.isatty() else line, file=stream, flush=True)


def scaling(text: str) -> RopeScaling:
    """Of "4:512": YaRN to 4 times a training length of 512 tokens. Raises UserError."""
    try:
        factor, length = text.split(":")
        return RopeScaling(float(factor), int(length))
    except ValueError as error:
        raise UserError(f"--rope-scaling {text}: expected FACTOR:LENGTH, for example 4:512 ({error})") from None


def main(
    folder: Path,
    prompts: Sequence[str],
    sampling: Sampling,
    system: str = "",
    calculator: bool = False,
    scaling: RopeScaling | None = None,
) -> None:
    """Take `prompts` as the user's turns of one conversation and print it; without any, read them from the terminal.

    `scaling` takes the place of the checkpoint's own.

    Raises config.ConfigError, files.CorruptError, checkpoint.CheckpointError, and TurnError for one of `prompts`.
    """
    device, dtype = hardware.setup(config.runtime())
    model = checkpoint.load(folder, dtype)
    if scaling is not None:
        model.rescale(scaling)
    talk = Talk(model.to(device), Chat(folder), sampling, system, calculator)
    for content in prompts or _read():
        if prompts:
            show({"role": "user", "content": content}, sys.stdout)
        try:
            for message in talk.say(content):
                show(message, sys.stdout)
        except TurnError as error:
            if prompts:
                raise
            print(error, file=sys.stderr)


def _read() -> Iterator[str]:
    """Lines that the user types, until the end of input or Ctrl-C; empty ones are passed over."""
    if sys.stdin.isatty():
        import readline  # noqa: F401  (gives `input` its editing; not there on Windows)

        print("Ctrl-D ends the conversation.")
    while True:
        try:
            line = input("you    │ " if sys.stdin.isatty() else "")
        except (EOFError, KeyboardInterrupt):
            print()
            return
        if line.strip():
            yield line
