"""Profiles are recognised by their values, wherever these come from."""

import json
from pathlib import Path
from typing import Any

import pytest

from minimind import provenance

SECTIONS = {"seed": 1, "sft": {"steps": 10, "betas": [0.9, 0.95]}, "evaluate": {"split": "dev"}}


@pytest.fixture
def profiles(tmp_path: Path) -> Path:
    other = SECTIONS | {"sft": {f"knob_{i}": i for i in range(30)}}
    for name, sections in {"mine": SECTIONS, "other": other}.items():
        (tmp_path / f"{name}.yaml").write_text(json.dumps(sections | {"runtime": {"threads": 2}}))
    (tmp_path / "unfinished.yaml").write_text("seed: [")
    return tmp_path


@pytest.mark.parametrize(
    ("changes", "profile"),
    [
        ({}, "mine"),
        ({"seed": 2}, "mine, but for seed"),
        ({"seed": 2, "sft": {"steps": 20, "betas": [0.9, 0.99]}}, "mine, but for seed, sft.steps, sft.betas"),
        ({"evaluate": {f"new_{i}": i for i in range(6)}}, "mine, but for evaluate.new_0, evaluate.new_1, "
         "evaluate.new_2, evaluate.new_3 and 3 more"),
        ({"sft": {f"new_{i}": i for i in range(30)}}, "none of profiles/"),
    ],
)  # fmt: skip
def test_the_nearest_profile_is_named(profiles: Path, changes: dict[str, Any], profile: str) -> None:
    assert provenance.of(SECTIONS | changes, profiles).profile == profile


def test_the_digest_is_that_of_the_values(profiles: Path, tmp_path: Path) -> None:
    first, second = (
        provenance.of(SECTIONS, profiles),
        provenance.of(dict(reversed(SECTIONS.items())), tmp_path / "none"),
    )
    assert first.digest == second.digest and len(first.digest) == 12
    assert provenance.of(SECTIONS | {"seed": 2}, profiles).digest != first.digest
    assert first.values == {"seed": "1", "sft.steps": "10", "sft.betas": "[0.9, 0.95]", "evaluate.split": "dev"}
    assert second.profile == "none of profiles/"
