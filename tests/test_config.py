"""Sections of params.yaml as typed values: what is accepted, and what every kind of mistake is told."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest

from minimind import config
from minimind.config import ConfigError
from minimind.limits import Limits


@dataclass(frozen=True)
class Layer:
    width: Annotated[int, Limits(1, 100)]
    gain: float = 1.0


@dataclass(frozen=True)
class Section:
    rate: float
    mode: Literal["on", "off", "auto"]
    betas: tuple[float, float]
    sizes: list[int]
    parts: dict[str, list[Layer]]
    limit: int | None
    name: str
    flag: bool
    layer: Layer
    warmup: int | float = 20

    def __post_init__(self) -> None:
        if self.rate < 0:
            raise ValueError(f"rate {self.rate} is below 0")


@dataclass(frozen=True)
class Params:
    seed: int
    section: Section


TEXT = """\
seed: 3
section:
  rate: 1e-3  # a string in YAML 1.1, a number in 1.2 and for DVC
  mode: on    # true in YAML 1.1
  betas: [0.9, 1]
  sizes: [1, 2, 3]
  parts: {left: [{width: 2}], right: []}
  limit: null
  name: "007"
  flag: true
  layer: {width: 4, gain: 2}
distill: {anything: at all}
"""


def load(path: Path, text: str) -> Params:
    path.write_text(text)
    return config.load(Params, path)


def test_each_type_is_converted_and_other_sections_are_not_looked_at(tmp_path: Path) -> None:
    params = load(tmp_path / "params.yaml", TEXT)
    layer = Layer(4, 2.0)
    parts = {"left": [Layer(2)], "right": []}
    assert params == Params(3, Section(1e-3, "on", (0.9, 1.0), [1, 2, 3], parts, None, "007", True, layer))
    assert all(type(beta) is float for beta in params.section.betas)
    with pytest.raises(dataclasses.FrozenInstanceError):
        params.seed = 4  # type: ignore[misc]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seed: 3", "sed: 3", "there is no section `sed`; did you mean `seed`?"),
        ("seed: 3", "", "the section `seed` is missing"),
        ("distill:", "distil:", "there is no section `distil`; did you mean `distill`? (known: seed, base, "),
        ("anything: at all", "anything: [1, {x: .nan}]", "`distill.anything[1].x` is nan, expected a finite number"),
        ("rate: 1e-3", "rate: -.inf", "`section.rate` is -inf, expected a finite number"),
        ("rate: 1e-3", "rate: 1e999", "`section.rate` is inf, expected a finite number"),
        ("seed: 3", f"seed: {10**30}", "`seed` is a whole number of more than 64 bits"),
        ("rate: 1e-3", f"rate: {10**400}", "`section.rate` is a whole number of more than 64 bits"),
        ("width: 4", "width: 0", "`section.layer.width` is 0 (a whole number), expected a whole number from 1 to 100"),
        ("width: 4", "width: 101", "`section.layer.width` is 101"),
        ("width: 4", "width: x", "'x' (a string), expected a whole number from 1 to 100"),
        ("seed: 3", "seed: 2026-99-99", "params.yaml is not YAML"),
        ("seed: 3", 'seed: "\x01"', "params.yaml is not YAML"),
        ("seed: 3", "seed:", "`seed` is missing or empty, expected a whole number"),
        ("seed: 3", "seed: 3.0", "`seed` is 3.0 (a number), expected a whole number"),
        ("seed: 3", "seed: true", "`seed` is true, expected a whole number"),
        ("seed: 3", "seed: 3\nseed: 4", 'params.yaml:2 is not YAML: found duplicate key "seed"'),
        ("seed: 3", "seed: [3", "params.yaml:2 is not YAML"),
        ("rate: 1e-3", "rat: 1e-3", "`section.rat` is not a known key; did you mean `rate`?"),
        ("rate: 1e-3", "rate: fast", "`section.rate` is 'fast' (a string), expected a number"),
        ("rate: 1e-3", "rate: -1", "in `section`: rate -1.0 is below 0"),
        ("  rate: 1e-3", "", "`section.rate` is missing: add it (a number)"),
        ("mode: on ", "mode: true", "`section.mode` is true, expected one of on, off, auto"),
        ("mode: on ", "mode: atuo", "did you mean `auto`?"),
        ("betas: [0.9, 1]", "betas: [0.9]", "`section.betas` is [0.9] (a list), expected a list of 2 values"),
        ("betas: [0.9, 1]", "betas: [0.9, x]", "`section.betas[1]` is 'x' (a string), expected a number"),
        ("sizes: [1, 2, 3]", "sizes: 1", "`section.sizes` is 1 (a whole number), expected a list"),
        ("sizes: [1, 2, 3]", "sizes: [1, 2.5]", "`section.sizes[1]` is 2.5"),
        ("{width: 2}", "{width: 2, deep: 1}", "`section.parts.left[0].deep` is not a known key"),
        ("right: []", "right: {}", "`section.parts.right` is a group of keys, expected a list"),
        ("right: []", "1: []", "put it in quotes"),
        ("limit: null", "limit: none", "`section.limit` is 'none' (a string), expected a whole number or null"),
        ('name: "007"', "name: 007", "`section.name` is 7 (a whole number), expected a string"),
        ("flag: true", "flag: 1", "`section.flag` is 1 (a whole number), expected true or false"),
        ("layer: {width: 4, gain: 2}", "layer: 4", "`section.layer` is 4 (a whole number), expected keys with values"),
        ("layer: {width: 4, gain: 2}", "layer: {gain: 2}", "`section.layer.width` is missing"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in TEXT
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "params.yaml", TEXT.replace(old, new, 1))
    assert message in str(caught.value)
    assert "params.yaml" in str(caught.value)


@pytest.mark.parametrize(("given", "value"), [("20", 20), ("0.05", 0.05), ("1e-2", 0.01), ("20.0", 20.0)])
def test_a_whole_number_and_a_share_are_told_apart(tmp_path: Path, given: str, value: float) -> None:
    found = load(tmp_path / "params.yaml", TEXT.replace("flag: true", f"flag: true\n  warmup: {given}")).section.warmup
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize("given", ["true", "few", "", "[1]"])
def test_and_nothing_else_is_either(tmp_path: Path, given: str) -> None:
    with pytest.raises(ConfigError, match=r"`section\.warmup` is .*expected a whole number or a number"):
        load(tmp_path / "params.yaml", TEXT.replace("flag: true", f"flag: true\n  warmup: {given}"))


def test_a_missing_or_unreadable_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    with pytest.raises(ConfigError, match="params.yaml is missing: run from the root"):
        config.load(Params, path)
    path.write_bytes(b"seed: \xff")
    with pytest.raises(ConfigError, match="not UTF-8"):
        config.load(Params, path)
    for text in ("", "- 1"):
        path.write_text(text)
        with pytest.raises(ConfigError, match="expected sections"):
            config.load(Params, path)


def test_an_alias_may_lead_back_to_where_it_stands(tmp_path: Path) -> None:
    text = TEXT.replace("{anything: at all}", "&all {anything: *all}")
    assert load(tmp_path / "params.yaml", text).seed == 3


def test_the_runtime_section_is_typed_too(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    values = (
        "{device: cpu, dtype: auto, threads: 0, processes: 2, strategy: ddp, zero_stage: 1, offload: false, "
        "micro_batch_size: 0, checkpoint_activations: false, kernels: auto, compile: off, workers: 1, "
        "evaluation_batch_size: 8}"
    )
    path.write_text(f"runtime: {values}\n")
    assert config.runtime(path) == config.Runtime(
        device="cpu", processes=2, compile="off", workers=1, evaluation_batch_size=8
    )
    path.write_text(f"runtime: {values}\n".replace("cpu", "cuba"))
    with pytest.raises(ConfigError, match="`runtime.device` is 'cuba'.*did you mean `cuda`"):
        config.runtime(path)
    path.write_text("seed: 1\n")
    with pytest.raises(ConfigError, match="`runtime` is missing"):
        config.runtime(path)
