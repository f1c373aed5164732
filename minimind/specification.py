"""What is expected of an answer, as data: the `verify` value of a benchmark item or a prompt.

It speaks of the final answer, which is what stands behind the thinking; docs/benchmark.md has examples.

- {"kind": "exact", "value": str or [str], "ignore"?: ["case", "punctuation"]}: the answer is the value, or one of them
- {"kind": "contains", "value": str or [str], "without"?: [str], "ignore"?: …}: the value, or one of them, stands in the
  answer, as whole words, and none of `without` does
- {"kind": "number", "value": number, "tolerance"?: number}: the last number in the answer differs by no more than that
- {"kind": "json", "value": any}: the answer is JSON and equals the value
- {"kind": "regex", "value": str}: the pattern stands in the answer; `^` and `$` are its ends
- {"kind": "any", "value": [specification]}: the answer meets one of these
- {"kind": "refusal", "value": [str]}: the answer begins with one of these phrases
- {"kind": "call", "value": {"name", "arguments"}}: the answer makes exactly this tool call
- {"kind": "form", "value": {"lines": int, "length": int, "rhyme"?: str, "given"?: [str]}}: the answer is Chinese
  verse of so many lines, all different and none of them among those given, of so many characters each; every second
  line ends in one of the characters `rhyme`
"""

import json
import math
from collections.abc import Callable
from typing import Any

from minimind import comparison

FORM: dict[str, type] = {"lines": int, "length": int, "rhyme": str, "given": list}
"""What the value of a form is made of."""
MAX_NAMED = 3  # texts that may not stand in an answer, for people to read
IGNORED = ("case", "punctuation")

Specification = dict[str, Any]


def check(spec: object) -> None:
    """Raise ValueError, saying why, if `spec` is no specification."""
    if not isinstance(spec, dict):
        raise ValueError(f"verify is {spec!r}, expected an object with a kind and a value")
    kind = spec.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"verify.kind is {kind!r}, expected one of {', '.join(KINDS)}")
    options = OPTIONS.get(kind, ())
    if unknown := set(spec) - {"kind", "value", *options}:
        known = ", ".join(("kind", "value", *options))
        raise ValueError(f"verify.{min(unknown)} is no key of the kind {kind}, which has {known}")
    if "value" not in spec:
        raise ValueError(f"verify.value is missing, which {kind} compares with")
    value = spec["value"]
    wanted, fits = KINDS[kind]
    if not fits(value):
        raise ValueError(f"verify.value is {value!r}, expected {wanted} for {kind}")
    for name in options:
        wanted, fits = OPTION_VALUES[name]
        if name in spec and not fits(spec[name]):
            raise ValueError(f"verify.{name} is {spec[name]!r}, expected {wanted}")
    if kind == "regex":
        comparison.pattern(value)
    elif kind == "any":
        for one in value:
            check(one)
    elif kind == "form":
        _check_form(value)


def _check_form(value: dict[str, Any]) -> None:
    for name, wanted in FORM.items():
        found = value.get(name, None if name in ("lines", "length") else wanted())
        if not isinstance(found, wanted):
            raise ValueError(f"verify.value.{name} is {found!r}, expected {wanted.__name__} for form")


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, str) for one in value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_call(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("name"), str) and isinstance(value.get("arguments"), dict)


KINDS: dict[str, tuple[str, Callable[[object], bool]]] = {
    "exact": ("text or a list of texts", lambda value: _is_text(value) or _are_texts(value)),
    "contains": ("text or a list of texts", lambda value: _is_text(value) or _are_texts(value)),
    "number": ("a number", _is_number),
    "json": ("JSON", lambda value: True),
    "regex": ("a pattern", _is_text),
    "any": ("a list of specifications", lambda value: isinstance(value, list) and bool(value)),
    "refusal": ("a list of phrases", _are_texts),
    "call": ("an object with a name and arguments", _is_call),
    "form": ("an object", lambda value: isinstance(value, dict)),
}
"""What each kind's value is, in words and as a test."""

OPTIONS = {"exact": ("ignore",), "contains": ("without", "ignore"), "number": ("tolerance",)}
OPTION_VALUES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "ignore": (f"a list of {' and '.join(IGNORED)}", lambda value: _are_texts(value) and set(value) <= set(IGNORED)),
    "without": ("a list of texts", lambda value: value == [] or _are_texts(value)),
    "tolerance": ("a number of 0 or more", lambda value: _is_number(value) and value >= 0),
}
"""What a specification may have beside its kind and value."""


def expected(spec: Specification) -> str:
    """What would have been right, for people to read."""
    value = spec["value"]
    match spec["kind"]:
        case "exact":
            return " or ".join(listed(value))
        case "contains":
            without = spec.get("without", [])
            named = " or ".join(without) if len(without) <= MAX_NAMED else f"any of {len(without)} others"
            return f"… {' or '.join(listed(value))} …" + (f", without {named}" if without else "")
        case "number":
            return f"{value}" + (f" ± {spec['tolerance']}" if spec.get("tolerance") else "")
        case "regex":
            return f"what matches {value}"
        case "any":
            return " or ".join(map(expected, value))
        case "refusal":
            return " or ".join(f"{phrase} …" for phrase in value)
        case "call":
            return f"{value['name']} {json.dumps(value['arguments'], ensure_ascii=False)}"
        case "form":
            rhymed = ", rhymed" if value.get("rhyme") else ""
            return f"{value['lines']} lines of {value['length']} characters{rhymed}"
        case _:
            return json.dumps(value, ensure_ascii=False)


def listed(value: str | list[str]) -> list[str]:
    """The texts of an `exact` or a `contains`, which may be one or several."""
    return [value] if isinstance(value, str) else value
