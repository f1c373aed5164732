"""What a teacher is asked: lines of JSON in, prompts or what is wrong with them out; and how many may be wrong."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minimind import answers, lossless, specification, verify
from minimind.chat import Conversation, ConversationError
from minimind.errors import UserError

NUM_EXAMPLES = 3  # prompts quoted when there are too many that are unusable
BAD = "bad prompt"
KEPT = ("accepted", "unverified")
"""Verdicts on answers that are kept; the others are wrong, unfinished, empty, too long, and BAD."""


class PromptsError(UserError):
    """Too many prompts bring nothing; the message names the first and the mend."""


@dataclass(frozen=True)
class Prompt:
    """Messages up to where the teacher speaks, and how its answer is judged.

    verify: as of `verify.verify`, or {"kind": "call", "value": {"name", "arguments"}} where a tool is to be called,
    of which only the call is judged; None where anything goes.
    """

    conversation: Conversation
    verify: dict[str, Any] | None
    family: str


def read(folder: Path) -> Iterator[tuple[str, Prompt | ConversationError]]:
    """Every line of the `.jsonl` files of `folder` that is not blank, in order, with its place ("file:line").

    A line is {"messages" or "conversations": [message, …], "tools"?, "verify"?, "family"?}; answers that end the
    messages are left out, since MiniMind's prompts come with one. A `verify` without a kind and a `family` that is no
    text are columns of somebody else's, and count as missing.
    """
    for path in sorted(folder.glob("*.jsonl")):
        with path.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                if lossless.is_blank(line):
                    continue
                try:
                    yield f"{path.name}:{number}", _prompt(lossless.loads(line.removeprefix(b"\xef\xbb\xbf")))
                except ConversationError as error:
                    yield f"{path.name}:{number}", error
                except ValueError as error:
                    yield f"{path.name}:{number}", ConversationError(f"is not JSON ({error})")


def _prompt(record: object) -> Prompt:
    if not isinstance(record, dict):
        raise ConversationError("is no JSON object")
    messages = next((record[key] for key in ("messages", "conversations") if isinstance(record.get(key), list)), None)
    if messages is None:
        keys = ", ".join(f"`{key}`" for key in record) or "no keys"
        raise ConversationError(
            f"has neither `messages` nor `conversations`, a list, but {keys}: `map` of its source says where they stand"
        )
    spec, family = record.get("verify"), record.get("family")
    if not isinstance(spec, dict) or "kind" not in spec:
        spec = None
    while messages and isinstance(messages[-1], dict) and messages[-1].get("role") == "assistant":
        messages = messages[:-1]
    if spec is not None:
        try:
            specification.check(spec)
        except ValueError as error:
            raise ConversationError(f"`verify` can't be used ({error})") from None
    messages, _ = answers.one_notation(messages)
    conversation = Conversation.of(messages, record.get("tools"))
    if not any(str(message["content"]).strip() for message in conversation.messages):
        raise ConversationError("asks nothing: every message is empty")
    return Prompt(conversation, spec, family if isinstance(family, str) and family.isprintable() else "all")


def judge(spec: dict[str, Any] | None, text: str, finished: bool) -> str:
    """The verdict on an answer; `finished` says whether the teacher ended it by itself."""
    if not finished:
        return "unfinished"
    if not verify.final_answer(text):
        return "empty"
    if spec is None:
        return "unverified"
    right = verify.is_call(text, spec["value"]) if spec["kind"] == "call" else verify.verify(spec, text)
    return "accepted" if right else "wrong"


@dataclass
class Usability:
    """How many prompts bring an answer to learn from, and which are the first that don't."""

    verdicts: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def add(self, place: str, verdict: str, detail: str = "") -> None:
        """Take in one prompt; the detail says what is wrong with it."""
        self.verdicts[verdict] += 1
        if verdict not in KEPT and len(self.examples) < NUM_EXAMPLES:
            self.examples.append(": ".join(filter(None, (place, verdict, detail))))

    def check(self, key: str, limit: float, where: str = "") -> None:
        """Raise PromptsError if more than `limit`, which stands at `key` of params.yaml, of the prompts bring nothing.

        `where` says where to look further.
        """
        unusable = {verdict: n for verdict, n in self.verdicts.most_common() if verdict not in KEPT}
        total, lost = self.verdicts.total(), sum(unusable.values())
        if lost > limit * total:
            counts = ", ".join(f"{number} {verdict}" for verdict, number in unusable.items())
            raise PromptsError(
                f"prompts: {lost} of {total} bring no answer to learn from ({counts}), more than {key} {limit} allows. "
                f"The first: {'; '.join(self.examples)}.{where} Mend the prompts, or raise the share"
            )


def inspect(folder: Path) -> Usability:
    """The prompts that can be read count as unverified, the others as BAD."""
    found = Usability()
    for place, prompt in read(folder):
        bad = isinstance(prompt, ConversationError)
        found.add(place, BAD if bad else "unverified", str(prompt) if bad else "")
    return found
