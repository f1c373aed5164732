import dataclasses
import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
import transformers
from toy.models import random_model

from minimind import checkpoint, config, files, tokenizer
from minimind.checkpoint import CheckpointError
from minimind.errors import UserError
from minimind.model import ModelConfig, RopeScaling

torch.set_num_threads(1)

LLAMA = ModelConfig(
    hidden_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=80,
    rope_theta=1e6, rms_norm_eps=1e-5, qk_norm=False, max_position_embeddings=64, vocab_size=300,
)  # fmt: skip
QWEN3 = replace(LLAMA, qk_norm=True, qk_norm_init=1.6, tie_word_embeddings=False, head_dim=16, rope_theta=3e4)
QWEN3_MOE = replace(QWEN3, use_moe=True, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=40)
MODELS = {
    "llama": LLAMA,
    "qwen3": QWEN3,
    "moe": QWEN3_MOE,
    "moe top-1, tied": replace(QWEN3_MOE, num_experts_per_tok=1, tie_word_embeddings=True),
    "qwen3, yarn": replace(QWEN3, rope_scaling=RopeScaling(4.0, 16)),
    "llama, yarn": replace(LLAMA, rope_scaling=RopeScaling(8.0, 8, 16.0, 2.0, 1.2)),
}
# No class of transformers: loaded through the file that lies beside the weights.
CUSTOM = {
    "shared experts": replace(LLAMA, use_moe=True, num_experts_per_tok=2, num_shared_experts=1),
    "shared experts and norms, untied": replace(QWEN3_MOE, num_shared_experts=2),
    "biases of the choice": replace(QWEN3_MOE, router_bias_rate=0.01, tie_word_embeddings=True),
}


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    settings = tokenizer.TokenizerConfig(vocab_size=300, isolate=True, max_bytes=1000, held_out_share=0.1)
    tokenizer.save(tokenizer.train(["some text to learn from, 一些文字"], settings), folder)
    (folder / "statistics.json").write_text("{}")
    return folder


@pytest.mark.parametrize("name", MODELS | CUSTOM)
def test_transformers_computes_the_same_logits(name: str, tmp_path: Path, tokenizer_folder: Path) -> None:
    model = random_model((MODELS | CUSTOM)[name])
    checkpoint.save(tmp_path / "model", model, tokenizer_folder, {})
    assert (tmp_path / "model" / "modeling_minimind.py").exists() == (name in CUSTOM)
    theirs, info = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "model", output_loading_info=True, trust_remote_code=name in CUSTOM
    )
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert theirs.dtype == torch.float32
    assert (theirs.config.bos_token_id, theirs.config.eos_token_id, theirs.config.pad_token_id) == (1, 2, 0)
    assert sum(p.numel() for p in theirs.parameters()) == model.num_parameters()
    ids = torch.randint(300, (2, 64), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        hidden, _ = model(ids, torch.ones_like(ids))
        # A mixture adds up its experts in another order there: a unit more in the last place.
        bound = 2e-5 if name in CUSTOM else 1e-5
        torch.testing.assert_close(model.logits(hidden), theirs(ids).logits, rtol=1e-5, atol=bound)


def test_transformers_finds_tokenizer_and_generation_settings(tmp_path: Path, tokenizer_folder: Path) -> None:
    checkpoint.save(tmp_path / "a", random_model(LLAMA), tokenizer_folder, {})
    checkpoint.save(tmp_path / "b", random_model(LLAMA), tokenizer_folder, {}, {"do_sample": True, "top_p": 0.9})
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "a")
    assert (
        theirs.encode("<|im_start|>text<|im_end|>")
        == tokenizer.load(tokenizer_folder).encode("<|im_start|>text<|im_end|>").ids
    )
    greedy = transformers.GenerationConfig.from_pretrained(tmp_path / "a")
    assert (greedy.do_sample, greedy.eos_token_id) == (False, 2)
    sampled = transformers.GenerationConfig.from_pretrained(tmp_path / "b")
    assert (sampled.do_sample, sampled.top_p) == (True, 0.9)


@pytest.mark.parametrize("name", MODELS | CUSTOM)
def test_round_trip(name: str, tmp_path: Path, tokenizer_folder: Path) -> None:
    model = random_model((MODELS | CUSTOM)[name])
    checkpoint.save(tmp_path / "model", model, tokenizer_folder, {"stage": "x"})
    loaded = checkpoint.load(tmp_path / "model", torch.bfloat16)
    assert loaded.config == model.config and loaded.dtype == torch.bfloat16
    assert list(loaded.state_dict()) == list(model.state_dict())
    for ours, theirs in zip(model.parameters(), loaded.parameters(), strict=True):
        assert theirs.dtype == torch.float32 and theirs.equal(ours)
    assert files.read_manifest(tmp_path / "model")["lineage"] == {"stage": "x"}


def test_equal_models_give_equal_bytes(tmp_path: Path, tokenizer_folder: Path) -> None:
    for name in ("a", "b"):
        checkpoint.save(tmp_path / name, random_model(QWEN3_MOE), tokenizer_folder, {})
    contents = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("a", "b")]
    assert contents[0] == contents[1]
    assert contents[0].keys() == {
        "README.md", "config.json", "generation_config.json", "manifest.json", "model.safetensors", "tokenizer.json",
        "tokenizer_config.json",
    }  # fmt: skip


def test_damage_is_named(tmp_path: Path, tokenizer_folder: Path) -> None:
    folder = tmp_path / "model"
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        checkpoint.save(folder, random_model(LLAMA), tokenizer_folder, {})
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)
        with pytest.raises(files.CorruptError, match=name):
            checkpoint.load(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(files.CorruptError, match=r"tokenizer.json is missing"):
        checkpoint.load(folder)


@pytest.mark.parametrize("change", [{"num_hidden_layers": 1}, {"hidden_size": 64}, {"qk_norm": True}, {"unknown": 1}])
def test_weights_that_do_not_fit_are_refused(change: dict[str, int], tmp_path: Path, tokenizer_folder: Path) -> None:
    checkpoint.save(tmp_path / "model", random_model(LLAMA), tokenizer_folder, {})
    (tmp_path / "model" / "manifest.json").unlink()
    files.write_manifest(tmp_path / "model", {"model": {**dataclasses.asdict(LLAMA), **change}})
    with pytest.raises(CheckpointError, match="written by other code"):
        checkpoint.load(tmp_path / "model")


def test_lineage(tmp_path: Path, tokenizer_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True)
    class Params:
        seed: int
        model: ModelConfig

    monkeypatch.chdir(tmp_path)
    Path("code.py").write_text("pass")
    Path("dvc.yaml").write_text("stages: {sft: {cmd: x, deps: [code.py, models/base]}}")
    checkpoint.save(Path("models/base"), random_model(LLAMA), tokenizer_folder, {})
    inputs = {"parent": Path("models/base"), "tokenizer": tokenizer_folder, "file": Path("code.py")}

    found = checkpoint.lineage("sft", inputs, Params(1, LLAMA))
    assert found["inputs"]["parent"] == hashlib.sha256(Path("models/base/manifest.json").read_bytes()).hexdigest()
    assert found["inputs"]["file"] == found["code"]["code.py"] == hashlib.sha256(b"pass").hexdigest()
    assert found["params"]["seed"] == 1 and found["params"]["model"]["hidden_size"] == 48
    assert found["versions"]["torch"] == torch.__version__
    assert found == checkpoint.lineage("sft", inputs, Params(1, LLAMA))
    with pytest.raises(config.ConfigError, match="no stage `dpo`"):
        checkpoint.lineage("dpo", inputs, Params(1, LLAMA))

    before = checkpoint.digest(tokenizer_folder)
    statistics = tokenizer_folder / "statistics.json"
    statistics.write_text("{} ")
    assert checkpoint.digest(tokenizer_folder) != before


def damaged(tmp_path: Path, tokenizer_folder: Path, name: str, content: bytes | None, **changes: object) -> Path:
    """A checkpoint in which a file, or a key of the manifest, is another, and whose manifest says so."""
    folder = tmp_path / "damaged"
    checkpoint.save(folder, random_model(QWEN3), tokenizer_folder, {})
    manifest = files.read_manifest(folder)
    if content is not None:
        (folder / name).write_bytes(content)
    (folder / files.MANIFEST).unlink()
    files.write_manifest(folder, {"model": manifest["model"] | changes, "lineage": {}})
    return folder


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff" * 99, b"\x08\0\0\0\0\0\0\0{}      ", b"\xff" * 7 + b"\x7f{}"])
def test_weights_that_are_none_are_named(tmp_path: Path, tokenizer_folder: Path, content: bytes) -> None:
    with pytest.raises(CheckpointError, match=r"model\.safetensors .*"):
        checkpoint.load(damaged(tmp_path, tokenizer_folder, checkpoint.WEIGHTS, content))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"num_hidden_layers": 10**7}, "num_hidden_layers|hidden_layers"),
        ({"num_hidden_layers": 3}, "weights of 2 hidden_layers, and its description says num_hidden_layers 3"),
        ({"hidden_size": 48 * 10**4}, r"lm_head.weight has the shape \(300, 48\)"),
        ({"vocab_size": 10**6}, "lm_head.weight has the shape"),
        ({"max_position_embeddings": 10**8}, "max_position_embeddings is 100,000,000"),
        ({"use_moe": True, "num_experts": 1000}, "weights of 0 experts, and its description says num_experts 1000"),
        ({"qk_norm": False}, "k_norm.weight that our model has no place for"),
        ({"hidden_size": "48"}, "`model.hidden_size` is '48'"),
        ({"tie_word_embeddings": "no"}, "`model.tie_word_embeddings` is 'no'"),
    ],
)
def test_a_description_that_is_not_of_its_weights_takes_neither_time_nor_memory(
    tmp_path: Path, tokenizer_folder: Path, changes: dict[str, object], says: str
) -> None:
    with pytest.raises(CheckpointError, match=says):
        checkpoint.load(damaged(tmp_path, tokenizer_folder, "", None, **changes))


def test_a_manifest_without_a_model_is_named(tmp_path: Path, tokenizer_folder: Path) -> None:
    folder = damaged(tmp_path, tokenizer_folder, "", None)
    for extra in ({}, {"model": None}, {"model": []}):
        (folder / files.MANIFEST).unlink()
        files.write_manifest(folder, extra)
        with pytest.raises(CheckpointError, match=r"manifest.json: `model`"):
            checkpoint.load(folder)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("tokenizer.json", b"{}", "tokenizer.json is no tokenizer"),
        ("tokenizer.json", b"\xff", "tokenizer.json is no tokenizer"),
        ("tokenizer.json", b"[" * 100_000, "tokenizer.json is no tokenizer"),
        ("tokenizer_config.json", b"[]", "tokenizer_config.json is no JSON object"),
        ("tokenizer_config.json", b"{", "tokenizer_config.json is not JSON"),
        ("tokenizer_config.json", b'{"eos_token": "<none>"}', "eos_token is '<none>'"),
        ("tokenizer_config.json", b'{"eos_token": 7}', "eos_token is 7"),
    ],
)
def test_a_tokenizer_that_is_none_is_named(
    tmp_path: Path, tokenizer_folder: Path, name: str, content: bytes, says: str
) -> None:
    with pytest.raises(UserError, match=says):
        checkpoint.special_ids(damaged(tmp_path, tokenizer_folder, name, content))
