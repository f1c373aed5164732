"""Sections of params.yaml as frozen, typed values.

A stage declares what it reads as a frozen dataclass whose fields are sections of params.yaml, and gets those
sections and nothing else:

    @dataclass(frozen=True)
    class Params:
        seed: int
        sft: TrainConfig

    params = config.load(Params)

Nothing is guessed: an unknown key, a missing one or a value of another type raises ConfigError, which names the
key, what stands there and what should. Only a key whose field has a default may be left out. The file is read
with DVC's own parser, so that DVC and the stage see the same values (`1e-3` is a number, `on` is a string).

A section may name a preset, a file of values for the keys that it leaves out or empty:

    model:
      preset: minimind-3  # presets/minimind-3.yaml
      hidden_size:

The stage gets that one file on its command line, as a dependency: DVC fills its name in from params.yaml, and a
change to another preset reruns nothing.
"""

import dataclasses
import difflib
import math
import types
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from minimind import limits
from minimind.errors import UserError
from minimind.limits import Limits

PARAMS = Path("params.yaml")
SECTIONS = (
    "seed", "base", "data", "clean", "tokenizer", "pack", "model", "student", "pretrain", "sft", "dpo", "teacher",
    "distill", "evaluate", "runtime",
)  # fmt: skip
"""All that params.yaml has; one that is misspelt would leave a value where nobody reads it."""

PRESETS = Path("presets")

T = TypeVar("T")


class ConfigError(UserError):
    """A value in a configuration file that can't be used; the message names the key and says the mend."""


@dataclass(frozen=True)
class Runtime:
    """How to run on this machine. No stage declares it: a change reruns nothing, alters results by rounding."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    threads: Annotated[int, Limits(0, 4096)] = 0  # 0: every core
    processes: Annotated[int, Limits(1, 1024)] = 1  # that train side by side on this machine
    strategy: Literal["single", "ddp", "deepspeed"] = "ddp"
    zero_stage: Annotated[int, Limits(0, 3)] = 1  # of DeepSpeed: 1 to 3 split optimizer state, gradients, weights
    offload: bool = False  # DeepSpeed keeps the optimizer's state in the CPU's memory
    micro_batch_size: Annotated[int, Limits(0, 10**6)] = 0  # rows in one forward pass of a process; 0: all of its rows
    checkpoint_activations: bool = (
        False  # compute each layer again in the backward pass instead of keeping it in memory
    )
    kernels: Literal["auto", "off"] = "auto"  # of C, where there is a compiler
    compile: Literal["auto", "on", "off"] = "auto"
    workers: Annotated[int, Limits(0, 4096)] = 0  # processes that clean and tokenise; 0: one for every core
    data_engine: Literal["local", "ray"] = "local"  # what packs: processes of this machine, or a Ray cluster
    evaluation_batch_size: Annotated[int, Limits(1, 10**5)] = 128  # sequences decoded side by side
    deterministic: bool = True  # a GPU repeats the bits of training, at some cost; a CPU does in any case

    def __post_init__(self) -> None:
        limits.check(self, "runtime")

    def rows_at_once(self, rows: int) -> int:
        """How many of so many rows pass through a model together."""
        return min(self.micro_batch_size or rows, rows)


def load(cls: type[T], path: Path = PARAMS, preset: Path | None = None) -> T:
    """The sections of the file `path` that the fields of the dataclass `cls` name; of others, only the name is read.

    `preset` is the file of the preset that one of these sections names. Raises ConfigError.
    """
    return take(cls, read(path), path, preset)


def take(cls: type[T], document: dict[str, Any], path: Path, preset: Path | None = None) -> T:
    """`load`, where the file has been read."""
    names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    known = {*SECTIONS, *names}
    for name in document:
        if name not in known:
            raise ConfigError(
                f"{path}: there is no section `{name}`{suggestion(name, known)} (known: {', '.join(SECTIONS)})"
            )
    for name in names:
        if name not in document:
            raise ConfigError(f"{path}: the section `{name}` is missing{suggestion(name, document)}")
    hints = _hints(cls)  # type: ignore[arg-type]
    sections = {name: document[name] for name in names}
    if preset is not None:
        sections |= {
            name: _filled(hints[name], section, preset, path, name)
            for name, section in sections.items()
            if isinstance(section, dict) and "preset" in section
        }
    return parse(cls, sections, path)


def preset(section: str, path: Path = PARAMS) -> Path:
    """The file of the preset that a section of the file `path` names. Raises ConfigError if there is none."""
    return named_preset(read(path), section, path)


def named_preset(document: dict[str, Any], section: str, path: Path) -> Path:
    """`preset`, where the file has been read."""
    value = document.get(section)
    name = value.get("preset") if isinstance(value, dict) else None
    known = [file.stem for file in sorted(PRESETS.glob("*.yaml"))]
    if name not in known:
        expected = ", ".join(known) + suggestion(name, known)
        raise ConfigError(f"{path}: `{section}.preset` is {_shown(name)}, expected one of {expected}")
    return PRESETS / f"{name}.yaml"


def runtime(path: Path = PARAMS) -> Runtime:
    """The section `runtime`, apart from `load` because no stage may declare it. Raises ConfigError."""
    return parse(Runtime, read(path).get("runtime"), path, "runtime")


def read(path: Path) -> dict[str, Any]:
    """The whole file as plain dicts, lists and scalars. Raises ConfigError."""
    try:
        document = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path} is missing: run from the root of the repository") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8: {error}") from None
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise ConfigError(f"{path}:{line} is not YAML: {error.problem}") from None
    except (YAMLError, ValueError, RecursionError) as error:  # a control character, a date that is none, a tower of [
        raise ConfigError(f"{path} is not YAML: {str(error).splitlines()[0]}") from None
    return checked(document, path)


def checked(document: object, path: Path) -> dict[str, Any]:
    """What a file holds, if it is sections in which every number is one. Raises ConfigError."""
    if not isinstance(document, dict):
        raise ConfigError(f"{path} is {_shown(document)}, expected sections such as `pretrain:`")
    _check_numbers(document, path, "", set())
    return document


def parse(cls: type[T], value: object, path: Path, key: str = "") -> T:
    """`value`, which stands at `key` of the file `path`, as the dataclass `cls`. Raises ConfigError."""
    if not isinstance(value, dict):
        raise _mismatch(path, key, value, "keys with values")
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for name in value:
        if name not in fields:
            known = ", ".join(fields)
            raise ConfigError(
                f"{path}: `{_join(key, name)}` is not a known key{suggestion(name, fields)} (known: {known})"
            )
    hints = _hints(cls)  # type: ignore[arg-type]
    arguments = {}
    for name, field in fields.items():
        if name in value:
            arguments[name] = _convert(hints[name], value[name], path, _join(key, name))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{path}: `{_join(key, name)}` is missing: add it ({_expected(hints[name])})")
    try:
        return cls(**arguments)
    except ConfigError:
        raise
    except ValueError as error:  # the dataclass's own checks, in __post_init__
        raise ConfigError(f"{path}: in `{key}`: {error}" if key else f"{path}: {error}") from error


def _check_numbers(value: object, path: Path, key: str, seen: set[int]) -> None:
    """Raise ConfigError, naming the key, for a number that is not finite, or that no integer of 64 bits holds.

    `seen` are the groups and lists that were looked at: an alias of YAML may lead back to one.
    """
    if isinstance(value, dict | list):
        if id(value) in seen:
            return
        seen.add(id(value))
    if isinstance(value, dict):
        for name, member in value.items():
            _check_numbers(member, path, _join(key, name), seen)
    elif isinstance(value, list):
        for index, member in enumerate(value):
            _check_numbers(member, path, f"{key}[{index}]", seen)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{path}: `{key}` is {value}, expected a finite number")
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ConfigError(f"{path}: `{key}` is a whole number of more than 64 bits, expected a smaller one")


def _filled(cls: Any, section: dict[str, Any], preset: Path, path: Path, key: str) -> dict[str, Any]:
    """The section at `key` of `path` without `preset`, its absent and empty keys taken from the file `preset`."""
    if section["preset"] != preset.stem:
        raise ConfigError(f"{path}: `{key}.preset` is {_shown(section['preset'])}, but the stage was given {preset}")
    values = read(preset)
    hints = _hints(cls)
    for name, value in values.items():
        if name not in hints:
            raise ConfigError(
                f"{preset}: `{name}` is not a known key{suggestion(name, hints)} (known: {', '.join(hints)})"
            )
        _convert(hints[name], value, preset, name)
    return values | {name: value for name, value in section.items() if name != "preset" and value is not None}


def _convert(hint: Any, value: object, path: Path, key: str, expected: str = "") -> Any:
    """`value` as the type `hint`, one of those that `_expected` can describe."""
    expected = expected or _expected(hint)
    hint, bounds = limits.split(hint)
    origin, arguments = get_origin(hint), get_args(hint)
    if bounds is not None:
        number = _convert(hint, value, path, key, expected)
        if not bounds.admit(number):
            raise _mismatch(path, key, value, expected)
        return number
    if dataclasses.is_dataclass(hint):
        return parse(hint, value, path, key)  # type: ignore[arg-type]
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        alternatives = [argument for argument in arguments if argument is not type(None)]
        if set(alternatives) == {int, float} and type(value) is int:
            return value  # 20 steps and a share of 0.2 are different things
        assert len(alternatives) == 1 or set(alternatives) == {int, float}, f"{key}: {hint} is not supported"
        return _convert(alternatives[-1], value, path, key, expected)
    if origin is Literal:
        # Compared with their types, because True == 1 in Python.
        if any(type(value) is type(choice) and value == choice for choice in arguments):
            return value
        raise _mismatch(path, key, value, expected + suggestion(value, [str(choice) for choice in arguments]))
    if origin in (list, tuple):
        if not isinstance(value, list):
            raise _mismatch(path, key, value, expected)
        if origin is list or arguments[1:] == (...,):
            hints = [arguments[0]] * len(value)
        elif len(arguments) == len(value):
            hints = list(arguments)
        else:
            raise _mismatch(path, key, value, expected)
        items = zip(hints, value, strict=True)
        return origin(_convert(item_hint, item, path, f"{key}[{i}]") for i, (item_hint, item) in enumerate(items))
    if origin is dict:
        if not isinstance(value, dict):
            raise _mismatch(path, key, value, expected)
        for name in value:
            if not isinstance(name, str):
                raise ConfigError(f"{path}: the key {name!r} of `{key}` is no string: put it in quotes")
        return {name: _convert(arguments[1], item, path, _join(key, name)) for name, item in value.items()}
    if hint in (object, Any):
        return value
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is hint:  # exactly: True is no int here
        return value
    raise _mismatch(path, key, value, expected)


def _expected(hint: Any) -> str:
    """The type in words, for messages."""
    hint, bounds = limits.split(hint)
    if bounds is not None:
        return f"{_expected(hint)} {bounds}"
    origin, arguments = get_origin(hint), get_args(hint)
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "a string", type(None): "null"}
    if hint in words:
        return words[hint]
    if origin in (Union, types.UnionType):
        return " or ".join(_expected(argument) for argument in arguments)
    if origin is Literal:
        return "one of " + ", ".join(str(choice) for choice in arguments)
    if origin is tuple and arguments[1:] != (...,):
        return f"a list of {len(arguments)} values"
    if origin in (list, tuple):
        return f"a list, each item {_expected(arguments[0])}"
    return "keys with values"


def _mismatch(path: Path, key: str, value: object, expected: str) -> ConfigError:
    if value is None:
        return ConfigError(f"{path}: `{key}` is missing or empty, expected {expected}")
    return ConfigError(f"{path}: `{key}` is {_shown(value)}, expected {expected}")


def _shown(value: object) -> str:
    """What stands in the file, in words: `"abc" (a string)`."""
    kinds = {int: "a whole number", float: "a number", str: "a string", list: "a list"}
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a group of keys"
    text = repr(value) if len(repr(value)) <= 60 else repr(value)[:57] + "..."
    return f"{text} ({kinds.get(type(value), type(value).__name__)})"


@cache
def _hints(cls: type) -> dict[str, Any]:
    """The types of a dataclass's fields, with limits."""
    return get_type_hints(cls, include_extras=True)


def suggestion(name: object, known: Collection[str]) -> str:
    """The known word that is nearest to a misspelt one, as the end of a message; empty if none is near."""
    close = difflib.get_close_matches(str(name), list(known), n=1)
    return f"; did you mean `{close[0]}`?" if close else ""


def _join(key: str, name: object) -> str:
    return f"{key}.{name}" if key else str(name)
