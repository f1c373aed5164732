"""Every preset: the sizes that MiniMind publishes, to the unit, and what of them a token meets."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from minimind import config
from minimind.config import ConfigError
from minimind.model import Decoder, ModelConfig

ROOT = Path(__file__).parents[1]
VOCABULARY = 6400  # tokens, throughout MiniMind

# Parameters, and how many of them a token meets, as counted in MiniMind's own code.
PUBLISHED = {
    "minimind-v1-small": (26_878_464, 26_878_464),
    "minimind-v1": (108_749_568, 108_749_568),
    "minimind-v1-moe": (96_100_864, 61_497_856),
    "minimind2-small": (25_829_888, 25_829_888),
    "minimind2-small-r1": (25_829_888, 25_829_888),
    "minimind2": (104_030_976, 104_030_976),
    "minimind2-r1": (104_030_976, 104_030_976),
    "minimind2-moe": (145_029_760, 91_945_600),
    "minimind-3": (63_912_192, 63_912_192),
    "minimind-3-moe": (198_416_640, 63_936_768),
}
OWN = {"atlas", "atlas-small", "poetry", "poetry-small"}
POSITIONS = {"minimind-v": (1e4, 512), "minimind2": (1e6, 32768), "minimind-3": (1e6, 32768)}


@dataclass(frozen=True)
class Params:
    model: ModelConfig


def build(name: str, folder: Path) -> Decoder:
    """The preset's decoder without storage."""
    path = folder / "params.yaml"
    path.write_text(f"model: {{preset: {name}, hidden_size: }}\n")
    loaded = config.load(Params, path, ROOT / "presets" / f"{name}.yaml").model
    with torch.device("meta"):
        return Decoder(loaded.with_vocabulary(VOCABULARY))


def product_operations(rows: torch.Size, matrices: torch.Size, *_: object, **__: object) -> int:
    """What torch can't know of our operator: every row meets one matrix."""
    return 2 * rows[0] * matrices[1] * matrices[2]


def test_there_are_no_others() -> None:
    assert {path.stem for path in ROOT.glob("presets/*")} == PUBLISHED.keys() | OWN


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_counts_are_the_published_ones(name: str, tmp_path: Path) -> None:
    model = build(name, tmp_path)
    assert (model.num_parameters(), model.num_parameters(active=True)) == PUBLISHED[name]
    expected = next(values for family, values in POSITIONS.items() if name.startswith(family))
    assert (model.config.rope_theta, model.config.max_position_embeddings) == expected
    assert model.config.qk_norm == name.startswith("minimind-3")
    assert model.config.rms_norm_eps == (1e-6 if name.startswith("minimind-3") else 1e-5)


@pytest.mark.parametrize("name", sorted(OWN))
def test_our_own_sizes_build(name: str, tmp_path: Path) -> None:
    assert 500_000 < build(name, tmp_path).num_parameters() < 5_000_000


@pytest.mark.parametrize("name", ["minimind2-small", "minimind2-moe", "minimind-3", "minimind-3-moe", "atlas"])
def test_operations_are_those_that_torch_counts(name: str, tmp_path: Path) -> None:
    """torch counts the whole square of attention: as many positions as there are on average below 2 T - 1."""
    model, T = build(name, tmp_path).to("meta"), 64
    ids = torch.zeros(2, T, dtype=torch.int64, device="meta")
    products = {torch.ops.minimind.grouped_product: product_operations}
    with FlopCounterMode(display=False, custom_mapping=products) as counter:
        model.logits(model(ids, torch.ones_like(ids))[0])
    assert counter.get_total_flops() == 2 * T * model.flops_per_token(2 * T - 1, training=False)
    assert model.flops_per_token(T) == 3 * model.flops_per_token(T, training=False)


def test_what_stands_beside_a_preset_counts(tmp_path: Path) -> None:
    path, preset = tmp_path / "params.yaml", ROOT / "presets/minimind-3.yaml"
    path.write_text("model: {preset: minimind-3, hidden_size: 512, num_hidden_layers: , qk_norm: false}\n")
    loaded = config.load(Params, path, preset).model
    assert (loaded.hidden_size, loaded.num_hidden_layers, loaded.qk_norm) == (512, 8, False)
    assert loaded.rms_norm_eps == 1e-6


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("preset: other", "hidden_size: 8", "`model.preset` is 'other' (a string), but the stage was given own.yaml"),
        ("preset: own, hiden_size: 8", "hidden_size: 8", "`model.hiden_size` is not a known key"),
        ("preset: own", "hiden_size: 8", "own.yaml: `hiden_size` is not a known key; did you mean `hidden_size`?"),
        ("preset: own", "hidden_size: wide", "own.yaml: `hidden_size` is 'wide' (a string), expected a whole number"),
        ("preset: own", "hidden_size: 8", "`model.num_hidden_layers` is missing: add it"),
        ("preset: own, hidden_size: 8.5", "hidden_size: 8", "params.yaml: `model.hidden_size` is 8.5"),
    ],
)
def test_a_mistake_is_named_with_its_file(
    section: str, values: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(f"model: {{{section}}}\n")
    Path("own.yaml").write_text(values)
    with pytest.raises(ConfigError) as caught:
        config.load(Params, preset=Path("own.yaml"))
    assert message in str(caught.value)


def test_a_preset_that_is_not_there_is_named_with_those_that_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(ROOT)
    (tmp_path / "params.yaml").write_text("model: {preset: minimind3}\n")
    with pytest.raises(ConfigError, match=r"`model.preset` is 'minimind3'.*did you mean `minimind-3`"):
        config.preset("model", tmp_path / "params.yaml")
    assert config.preset("model") == Path("presets/atlas.yaml")
