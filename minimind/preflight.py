"""What can be known before the first stage: values, what they say together, and the records that are on this machine.

Stages check the same again where they read it, which may be hours later.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from minimind import benchmark, config, corpus, prompts, schedule, train
from minimind.chat import ConversationError
from minimind.cleaning.settings import CleanConfig
from minimind.config import ConfigError, Runtime
from minimind.corpus import LineError
from minimind.distributed import World
from minimind.errors import UserError
from minimind.intake import vocabulary
from minimind.limits import Seed
from minimind.lora import TuneConfig
from minimind.model import ModelConfig
from minimind.packing import PackConfig
from minimind.recipes.distill import DistillConfig
from minimind.recipes.dpo import DpoConfig
from minimind.recipes.sft import SftConfig
from minimind.score import EvaluateConfig
from minimind.sources import collection, recognition
from minimind.sources.file import FileSource
from minimind.sources.source import AbsentError, Source
from minimind.teacher import TeacherConfig
from minimind.tokenizer import TokenizerConfig
from minimind.train import TrainConfig

OWN, BASE = Path("data/own"), Path("data/base/model")
NUM_RECORDS = 50  # that are looked at, of each file
NUM_FILES = 200  # of each source
LENIENT = ("empty", "too long")  # how the faults begin that may befall any line of good data


@dataclass(frozen=True)
class Values:
    """Every section that needs no preset."""

    seed: Seed
    base: bool
    data: collection.DataSets
    clean: CleanConfig
    tokenizer: TokenizerConfig
    pack: PackConfig
    pretrain: TrainConfig
    sft: SftConfig
    dpo: DpoConfig
    teacher: TeacherConfig
    distill: DistillConfig
    evaluate: EvaluateConfig
    runtime: Runtime


@dataclass(frozen=True)
class Models:
    """The sections that a preset fills in, one at a time."""

    model: ModelConfig


@dataclass(frozen=True)
class Students:
    """Likewise."""

    student: ModelConfig


def check(path: Path = config.PARAMS) -> list[str]:
    """Check the file of parameters `path` and the data that it names; return what is not on this machine yet.

    Raises UserError, of which the message names the key, or the file and its line, and says the mend.
    """
    return examine(config.read(path), path)


def examine(document: dict[str, Any], path: Path) -> list[str]:
    """`check`, where the file has been read."""
    values = config.take(Values, document, path)
    presets = {section: config.named_preset(document, section, path) for section in ("model", "student")}
    models = {
        "model": config.take(Models, document, path, presets["model"]).model,
        "student": config.take(Students, document, path, presets["student"]).student,
    }
    try:
        _check_together(values, models)
    except ConfigError:
        raise
    except UserError as error:
        raise ConfigError(f"{path}: {error}") from error
    return _check_data(values, path)


def _check_together(values: Values, models: dict[str, ModelConfig]) -> None:
    """What two sections say of each other. Raises UserError."""
    for section, recipe in _recipes(values).items():
        complete = not (isinstance(recipe, TuneConfig) and recipe.lora.rank)
        try:
            train.check(recipe, values.runtime, World(0, values.runtime.processes), complete)
        except UserError as error:
            raise UserError(f"`{section}`: {error}") from error
        schedule.check(
            section, recipe.steps, recipe.schedule, recipe.warmup_steps, recipe.decay_share,
            recipe.final_learning_rate_share,
        )  # fmt: skip
    for section, model in models.items():
        if values.pack.max_seq_len > model.max_position_embeddings and not (section == "model" and values.base):
            raise UserError(
                f"rows of `pack.max_seq_len` {values.pack.max_seq_len} tokens don't fit "
                f"`{section}.max_position_embeddings` {model.max_position_embeddings}: change one of them"
            )
    if not values.data.pretrain and not values.base:
        raise UserError(
            "data.pretrain has no source, and there is nothing to learn a language from: add one, or set base to true"
        )
    if values.pack.validation_share in (0, 1):
        raise UserError(
            f"`pack.validation_share` is {values.pack.validation_share:g}, which leaves nothing to train on or nothing "
            "to validate on: choose a share in between"
        )
    if not values.base and values.teacher.top_k > values.tokenizer.vocab_size:
        raise UserError(
            f"`teacher.top_k` {values.teacher.top_k} exceeds `tokenizer.vocab_size` {values.tokenizer.vocab_size}"
        )
    if values.base:
        with tempfile.TemporaryDirectory() as folder:
            vocabulary.adopt(BASE, Path(folder))


def _recipes(values: Values) -> dict[str, TrainConfig]:
    return {"pretrain": values.pretrain, "sft": values.sft, "dpo": values.dpo, "distill": values.distill}


def _check_data(values: Values, path: Path) -> list[str]:
    """Every source, and what its files begin with; returns what is not here. Raises UserError."""
    absent = []
    for data_set, entries in vars(values.data).items():
        names: list[str] | None = []
        for number, entry in enumerate(entries or []):
            key = f"data.{data_set}[{number}]"
            source = collection.parse(entry, key, path)
            try:
                found = collection.file_names(source, number, data_set)
                _check_records(source, data_set)
            except AbsentError as error:
                absent.append(f"`{key}`: {error}")
                found = None
            except UserError as error:
                raise ConfigError(f"{path}: `{key}`: {error}") from error
            names = None if names is None or found is None else names + found
        if names is not None:
            _check_names(data_set, names, values, path)
    return absent


def _check_names(data_set: str, names: list[str], values: Values, path: Path) -> None:
    """Whether what `pack.mixture` and `evaluate.split` name is there. Raises UserError."""
    try:
        values.pack.mixture.of(data_set, names)
    except UserError as error:
        raise ConfigError(f"{path}: {error}") from error
    split = values.evaluate.split
    if data_set == "benchmark" and names and split not in names:
        raise ConfigError(
            f"{path}: `evaluate.split` is {split!r}, and the splits of `data.benchmark` are: {', '.join(names)}"
            f"{config.suggestion(split, names)}"
        )


def _check_records(source: Source, data_set: str) -> None:
    """Look at the files of a source that are here: at all items of a benchmark, else at the first records.

    Raises UserError where no record of a file can be used.
    """
    if not isinstance(source, FileSource):
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / data_set
        folder.mkdir()
        if data_set == "benchmark":
            source.fetch(folder, OWN)
            for file in sorted(folder.iterdir()):
                try:
                    benchmark.read(folder, file.stem)
                except UserError as error:
                    raise UserError(str(error).replace(f"{folder}/", "")) from error
            return
        for path, lines in islice(source.heads(OWN, NUM_RECORDS), NUM_FILES):
            head = folder / "head.jsonl"
            head.write_bytes(b"".join(line + b"\n" for line in lines))
            recognition.convert(head, data_set, str(path))
            faults = [fault for fault in _faults(folder) if lines[fault.line - 1].strip()]
            worst = next((fault for fault in faults if fault.reason and not fault.reason.startswith(LENIENT)), None)
            if worst is not None and all(fault.reason for fault in faults):
                raise UserError(
                    f"{path}:{worst.line}: {worst.reason}, and none of the first {len(faults)} records can be used"
                    f"{_keys(lines[worst.line - 1])}"
                )


class _Fault(NamedTuple):
    line: int
    reason: str  # in words; empty where nothing is wrong


def _faults(folder: Path) -> Iterator[_Fault]:
    """What is wrong with each record in a folder named as a data set."""
    if folder.name == "prompts":
        for place, prompt in prompts.read(folder):
            yield _Fault(int(place.rpartition(":")[2]), str(prompt) if isinstance(prompt, ConversationError) else "")
    else:
        for source, document in corpus.read(folder):
            yield _Fault(source.line, str(document) if isinstance(document, LineError) else "")


def _keys(line: bytes) -> str:
    """What a record has instead, in words, and the mend."""
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        return ": say what it is with `format:`"
    if not isinstance(record, dict):
        return ": each line must be an object"
    return f": its keys are {', '.join(map(str, record))}; write a `map:`, as profiles/custom.yaml has them"
