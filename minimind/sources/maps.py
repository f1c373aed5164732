"""The `map` of a source: where our keys find their values in the records of others."""

import re
import string
from collections.abc import Mapping
from typing import Any

from minimind import lossless

KEYS = ("text", "conversations", "role", "content", "system", "user", "assistant", "chosen", "rejected", "gt")
BESIDE = ("tools", "verify", "family")
"""What a record may have besides, under these names or mapped to them."""

OPTIONAL = ("system", "gt", *BESIDE)
"""What not every record needs to have."""

_ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant"}  # as ShareGPT calls them
_MESSAGES = ("conversations", "chosen", "rejected")


def check(places: Mapping[str, str]) -> None:
    """Raise ValueError unless the map's keys are known and its values can be filled in."""
    if unknown := set(places) - {*KEYS, *BESIDE}:
        raise ValueError(f"`map` has {', '.join(sorted(unknown))}, known are {', '.join(KEYS + BESIDE)}")
    for key, place in places.items():
        if not place:
            raise ValueError(f"`map.{key}` is empty: it names a key of the records")
        if "{" in place or "}" in place:
            try:
                named = [field for _, field, _, _ in string.Formatter().parse(place) if field is not None]
            except ValueError as error:
                raise ValueError(f"`map.{key}` is {place!r}: {error}; for the sign itself write {{{{ or }}}}") from None
            if not named or not all(named):
                raise ValueError(f"`map.{key}` is {place!r}: it names no key between its braces")


def apply(places: Mapping[str, str], record: Mapping[str, Any], seen: set[str]) -> dict[str, Any]:
    """The record in our schema; the keys that were found are added to `seen`. Raises KeyError naming what it lacks."""
    at = {key: place for key, place in places.items() if key not in ("role", "content")}
    if not at.keys() & {*_MESSAGES, "text", "user", "assistant"}:
        at = {"conversations": "conversations", **at}  # `role` and `content` alone
    found = {}
    for key, place in at.items():
        try:
            found[key] = _value(record, place, seen)
        except KeyError:
            if key not in OPTIONAL:
                raise
    found |= {key: record[key] for key in BESIDE if key in record and key not in found}
    asked = {key: found.pop(key) for key in ("system", "user", "assistant") if key in found}
    for key in _MESSAGES:
        if isinstance(found.get(key), list):
            found[key] = [_message(places, message) for message in found[key]]
    messages = [{"role": role, "content": asked[role]} for role in ("system", "user") if asked.get(role)]
    if "assistant" in asked:
        found["conversations"] = [*messages, {"role": "assistant", "content": asked["assistant"]}]
    elif "user" in asked and not found.keys() & set(_MESSAGES):
        found["conversations"] = messages
    for key in ("chosen", "rejected"):
        answer = found.get(key)
        if isinstance(answer, str):
            found[key] = [*messages, {"role": "assistant", "content": answer}]
        elif isinstance(answer, list) and answer and isinstance(answer[0], dict) and _answers(answer[0]):
            found[key] = [*messages, *answer]
    return found


def fields(places: Mapping[str, str]) -> set[str]:
    """The keys of others that the map names, as they are written in it."""
    named = set()
    for key, place in places.items():
        if "{" in place:
            named |= {field for _, field, _, _ in string.Formatter().parse(place) if field}
        elif key not in ("role", "content"):
            named.add(place)
    return named


def _message(places: Mapping[str, str], message: object) -> object:
    if not isinstance(message, dict):
        return message
    names = {places.get(key, key): key for key in ("role", "content")}
    renamed = {names.get(key, key): value for key, value in message.items()}
    if isinstance(role := renamed.get("role"), str):
        renamed["role"] = _ROLES.get(role, role)
    return renamed


def _answers(message: dict[str, Any]) -> bool:
    return message.get("role") == "assistant"


def _value(record: Any, place: str, seen: set[str]) -> Any:
    if "{" in place:
        return _filled(record, place, seen)
    value = _found(record, place)
    seen.add(place)
    return value


def _found(record: Any, place: str) -> Any:
    for key in place.split("."):
        if not isinstance(record, dict) or key not in record:
            raise KeyError(place)
        record = record[key]
    return record


def _filled(record: Mapping[str, Any], template: str, seen: set[str]) -> str:
    """The template with values in it. A line of which all keys are empty goes, and the line breaks before it."""
    missing, text = [], ""
    lines = re.split(r"(\n+)", template)
    for breaks, line in zip(["", *lines[1::2]], lines[::2], strict=True):
        filled, values, gap = "", [], False
        for literal, field, _, _ in string.Formatter().parse(line):
            filled += literal.lstrip(" ") if gap and (not filled or filled[-1] == " ") else literal
            gap = gap and not literal
            if field is not None:
                try:
                    values.append(_written(_found(record, field)))
                    seen.add(field)
                except KeyError:
                    missing.append(field)
                    values.append("")
                filled += values[-1]
                gap = not values[-1]
        if any(values) or not values:
            text += (breaks if text else "") + (filled.rstrip(" ") if gap else filled)
    if missing and not text.strip():
        raise KeyError(missing[0])
    return text


def _written(value: Any) -> str:
    """Nothing for what is empty, texts as they are, one under the other if there are several; all else as JSON."""
    if isinstance(value, list) and all(isinstance(member, str) for member in value):
        value = "\n".join(value)
    if isinstance(value, str):
        return value if value.strip() else ""
    return "" if value is None or value == {} else lossless.text(value)
