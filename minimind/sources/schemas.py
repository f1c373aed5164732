"""Which schema a record is in, as far as its keys tell, and the same record in ours.

Known are the messages of OpenAI and ShareGPT, Alpaca, questions and answers in columns, trl's preferences with and
without a prompt, in text and in messages, and MiniMind's own. Where keys can be read in more than one way, nothing is
guessed: that is `UnclearError`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from minimind.sources import dialogues
from minimind.sources.dialogues import Messages

Record = dict[str, Any]

QUESTIONS = ("instruction", "prompt", "question", "query", "q")
ANSWERS = ("output", "completion", "response", "answer", "a")
INPUTS = ("input", "context")  # what an instruction is about
SYSTEM = ("system", "system_prompt")
_BESIDE = ("tools", "functions", "history", "chosen", "rejected", "prompt", "completion", "verify")  # no conversation


class UnclearError(ValueError):
    """A record that may be meant in more than one way; the message says how."""


class Found(NamedTuple):
    """A record in our schema. `schema`: the name of the one that it was in, empty if it was in ours to the letter."""

    schema: str
    record: Record
    used: tuple[str, ...] = ()  # keys


def recognise(record: Record, data_set: str) -> Found | None:
    """The record as `data_set` wants it, None where its keys are none that are known. Raises UnclearError."""
    return _RECOGNISERS[data_set](record)


def _document(record: Record) -> Found | None:
    return Found("", record) if "text" in record else None


def _dialogue(record: Record) -> Found | None:
    if (found := _listed(record)) or "conversations" in record:
        return _talk(record, *found, key="conversations") if found else Found("", record)
    if not (asked := _asked(record)):
        return None
    answers = _present(record, ANSWERS)
    if len(answers) != 1:
        _refuse_several(answers, "the answer")
        return None
    before, used = asked
    answer = dialogues.of(record[answers[0]], "assistant") or []
    return _made(_name(used[0], answers[0]), record, {"conversations": [*before, *answer]}, (*used, *answers))


def _pair(record: Record) -> Found | None:
    if not {"chosen", "rejected"} <= record.keys():
        return None
    sides = [dialogues.of(record[key], "assistant") for key in ("chosen", "rejected")]
    if not all(sides):
        return Found("", record) if all(isinstance(record[key], list) for key in ("chosen", "rejected")) else None
    chosen, rejected = (side or [] for side in sides)
    before, used = _asked(record) or ([], ())
    if not before and (found := _listed(record)):
        key, before = found
        used = (key,)
    if not before and not any(message["role"] == "user" for message in chosen):
        raise UnclearError("`chosen` and `rejected` hold answers only, and no key that is known holds what was asked")
    made = {"chosen": _after(before, chosen), "rejected": _after(before, rejected)}
    if made == {key: record[key] for key in made}:
        return Found("", record)
    schema = "trl preference" if used[:1] in ((), ("prompt",)) else "preference"
    return _made(schema, record, made, (*used, *made))


def _prompt(record: Record) -> Found | None:
    if found := _listed(record):
        return _talk(record, *found, key="messages" if "messages" in record else "conversations")
    if {"messages", "conversations"} & record.keys():
        return Found("", record)
    if not (asked := _asked(record)):
        return None
    before, used = asked
    return _made(_name(used[0], ""), record, {"messages": before}, used)


_RECOGNISERS: dict[str, Callable[[Record], Found | None]] = {
    "pretrain": _document, "sft": _dialogue, "dpo": _pair, "prompts": _prompt,
}  # fmt: skip
DATA_SETS = tuple(_RECOGNISERS)


def _listed(record: Record) -> tuple[str, Messages] | None:
    """The key that holds a list of messages, and these in our form."""
    named = [key for key in ("conversations", "messages") if dialogues.held_by(record.get(key))]
    others = [key for key, value in record.items() if key not in _BESIDE and dialogues.held_by(value)]
    if not named:
        _refuse_several(others, "the conversation")
    found = (named or others)[:1]
    return (found[0], dialogues.of(record[found[0]], "user") or []) if found else None


def _talk(record: Record, key_of_theirs: str, talk: Messages, key: str) -> Found:
    system, used = _system(record)
    if talk[0]["role"] == "system":
        system, used = [], ()
    theirs = record[key_of_theirs]
    talk = [*system, *talk]
    rest = {name: value for name, value in record.items() if name != key_of_theirs}
    tools = {} if "tools" in rest or not rest.get("functions") else {"tools": rest.pop("functions")}
    if key_of_theirs == key and talk == theirs and not tools:
        return Found("", record)
    share_gpt = isinstance(theirs, list) and any("from" in message for message in theirs)
    kind = "ShareGPT" if share_gpt else "messages in text" if isinstance(theirs, str) else "OpenAI messages"
    empty = [name for name in SYSTEM if name in record and record[name] in (None, "")]
    return _made(kind, rest, {key: talk} | tools, (key_of_theirs, *used, *empty, *(["functions"] if tools else [])))


def _asked(record: Record) -> tuple[Messages, tuple[str, ...]] | None:
    """What comes before the answer, and the keys that say it."""
    questions, inputs = _present(record, QUESTIONS), [key for key in _present(record, INPUTS) if record[key]]
    if not questions and inputs == ["input"]:
        questions, inputs = inputs, []
    _refuse_several(questions, "the question")
    if not questions:
        return None
    question = dialogues.of(record[questions[0]], "user") or []
    if inputs:
        if questions[0] not in ("instruction", "prompt") or len(inputs) > 1 or isinstance(record[questions[0]], list):
            raise UnclearError(f"it is not said how {_and([*questions, *inputs])} make one question")
        question[-1]["content"] += "\n" + record[inputs[0]]
    system, used = ([], ()) if question[0]["role"] == "system" else _system(record)
    try:
        history = dialogues.pairs(record.get("history"))
    except ValueError as error:
        raise UnclearError(str(error)) from None
    empty = [key for key in (*INPUTS, *SYSTEM) if key in record and record[key] in (None, "")]
    told = (*questions, *inputs, *used, *(["history"] if "history" in record else []), *empty)
    return [*system, *history, *question], told


def _system(record: Record) -> tuple[Messages, tuple[str, ...]]:
    found = [key for key in SYSTEM if isinstance(record.get(key), str) and record[key].strip()][:1]
    return [{"role": "system", "content": record[key]} for key in found], tuple(found)


def _after(before: Messages, answer: Messages) -> Messages:
    """The whole conversation, of which the answer may hold what comes before already, or its last question."""
    said = [(message["role"], _bare(message)) for message in answer]
    if said[: len(before)] == [(message["role"], _bare(message)) for message in before]:
        return answer
    if len(before) == 1 and answer[0]["role"] != "assistant" and ("user", _bare(before[0])) in said:
        return answer
    return [*before, *answer]


def _bare(message: Record) -> str:
    return str(message.get("content")).strip()


def _present(record: Record, keys: tuple[str, ...]) -> list[str]:
    return [key for key in keys if dialogues.of(record.get(key), "user") is not None]


def _refuse_several(keys: list[str], what: str) -> None:
    if len(keys) > 1:
        raise UnclearError(f"{_and(keys)} may each be {what}")


def _and(keys: list[str]) -> str:
    return ", ".join(f"`{key}`" for key in keys[:-1]) + f" and `{keys[-1]}`"


def _name(question: str, answer: str) -> str:
    known = {("instruction", "output"): "Alpaca", ("prompt", "completion"): "trl prompt-completion",
             ("q", "a"): "MiniMind V1", ("prompt", ""): "trl prompt-only"}  # fmt: skip
    return known.get((question, answer), "question and answer" if answer else "questions")


def _made(schema: str, record: Record, made: Record, used: tuple[str, ...]) -> Found:
    rest = {key: value for key, value in record.items() if key not in used and key not in made}
    return Found(schema, made | rest, used)
