"""Folders that transformers wrote, against what transformers computes; and what is refused by name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from minimind import checkpoint, cli, files
from minimind.errors import UserError
from minimind.intake import huggingface, parity
from minimind.intake.origin import IntakeError

torch.set_num_threads(1)

Output = pytest.CaptureFixture[str]
SHAPE: dict[str, Any] = {
    "vocab_size": 512, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 96, "max_position_embeddings": 128, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
    "initializer_range": 0.1,
}  # fmt: skip
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "head_dim": 32}
ROPE = {"rope_type": "default", "rope_theta": 5e5}
YARN = {
    "rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 32, "beta_fast": 16.0,
}  # fmt: skip
CONFIGS: dict[str, Callable[[], Any]] = {
    "llama": lambda: transformers.LlamaConfig(**SHAPE, rope_parameters=ROPE, tie_word_embeddings=True),
    "qwen3": lambda: transformers.Qwen3Config(**SHAPE, head_dim=16, rms_norm_eps=1e-5),
    "normalised": lambda: transformers.Qwen3MoeConfig(**SHAPE, **EXPERTS, norm_topk_prob=True),
    "not normalised": lambda: transformers.Qwen3MoeConfig(**SHAPE, **EXPERTS, norm_topk_prob=False),
    "top-1": lambda: transformers.Qwen3MoeConfig(
        **SHAPE, **(EXPERTS | {"num_experts_per_tok": 1}), norm_topk_prob=True
    ),
    "stretched": lambda: transformers.Qwen3Config(**SHAPE, head_dim=32, rope_parameters=YARN),
}


def save(kind: str, folder: Path, tokenizer: Path, **options: Any) -> Path:
    """A model of transformers with random weights, norms too, as transformers saves it."""
    torch.manual_seed(3)
    model = transformers.AutoModelForCausalLM.from_config(CONFIGS[kind]())
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.data += 0.3 * torch.randn(parameter.shape)
    model.save_pretrained(folder, **options)
    for name in checkpoint.TOKENIZER_FILES:
        (folder / name).write_bytes((tokenizer / name).read_bytes())
    return folder


@pytest.mark.parametrize("kind", CONFIGS)
def test_an_imported_model_computes_the_same(
    kind: str, tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    source = save(kind, tmp_path / "source", tokenizer_folder, max_shard_size="80KB")
    compared = kind == "qwen3"  # once is enough for the command's own comparison, which takes seconds
    monkeypatch.setattr(parity, "installed", lambda: compared)
    assert (source / "model.safetensors.index.json").exists()
    assert cli.main(["import", str(source), str(tmp_path / "model")]) == 0
    assert ("logits equal transformers'" in capsys.readouterr().out) == compared
    model = checkpoint.load(tmp_path / "model")
    ids = torch.randint(512, (2, 100), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        ours = model.logits(model(ids, torch.ones_like(ids))[0])
        for folder in (source, tmp_path / "model"):  # and what is written here goes back there
            theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)
            torch.testing.assert_close(ours, theirs(ids).logits, rtol=1e-5, atol=2e-5)


def test_lineage_names_every_file_and_nothing_of_this_machine(
    tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity, "installed", lambda: False)
    source = save("qwen3", tmp_path / "source", tokenizer_folder)
    contents = []
    for name in ("a", "b"):
        assert cli.main(["import", str(source), str(tmp_path / name)]) == 0
        contents.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert contents[0] == contents[1]
    lineage = files.read_manifest(tmp_path / "a")["lineage"]
    names = ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    assert lineage == {
        "stage": "import",
        "source": "source",
        "revision": None,
        "inputs": {name: files.sha256(source / name) for name in names},
    }


def test_what_stands_on_the_hub_is_fetched_and_its_commit_recorded(
    hub: Any, tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.setattr(parity, "installed", lambda: False)
    source = save("llama", tmp_path / "source", tokenizer_folder)
    hub.files["org/small"] = {path.name: path.read_bytes() for path in source.iterdir()}
    hub.files["org/small"]["pytorch_model.bin"] = b"a pickle"
    assert cli.main(["import", "hf://org/small@main", str(tmp_path / "model")]) == 0
    lineage = files.read_manifest(tmp_path / "model")["lineage"]
    assert (lineage["source"], lineage["revision"]) == ("hf://org/small", hub.commit("org/small"))
    assert not list(tmp_path.rglob("pytorch_model.bin"))
    assert checkpoint.load(tmp_path / "model").config.hidden_size == 64
    capsys.readouterr()
    for name, says in (("hf://org/none", "could not be fetched"), ("hf://small", "not of the form")):
        assert cli.main(["import", name, str(tmp_path / "x")]) == 1
        assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model_type": "gpt2"}, "model_type is 'gpt2'"),
        ({"attention_bias": True}, "attention_bias is True"),
        ({"mlp_bias": True}, "mlp_bias is True"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"use_sliding_window": True}, "use_sliding_window is True"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "sliding_attention"),
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}}, "scaled by 'llama3'"),
        ({"rope_parameters": None, "rope_scaling": {"type": "linear", "factor": 2}}, "scaled by 'linear'"),
        ({"rope_parameters": YARN | {"mscale": 0.7}}, "rope_scaling.mscale"),
        ({"rope_parameters": YARN | {"factor": None}}, "factor"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5"),
        ({"rope_parameters": ROPE | {"partial_rotary_factor": 0.25}}, "partial_rotary_factor is 0.25"),
        ({"rope_parameters": ROPE, "rope_theta": 1e4}, r"rope_theta is 10000\.0 in one place and 500000\.0"),
        ({"mlp_only_layers": [0]}, r"mlp_only_layers is \[0\]"),
        ({"decoder_sparse_step": 2}, "decoder_sparse_step is 2"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"num_hidden_layers": None}, "num_hidden_layers is missing"),
        ({"num_key_value_heads": 3}, "not a multiple"),
        ({"model_type": ["qwen3"]}, "model_type is"),
        ({"tie_word_embeddings": "no"}, "tie_word_embeddings` is 'no'"),
        ({"hidden_size": "64"}, "hidden_size` is '64'"),
        ({"num_hidden_layers": 2.5}, "num_hidden_layers` is 2.5"),
        ({"max_position_embeddings": 0}, "max_position_embeddings is 0"),
        ({"vocab_size": -1}, "vocab_size is -1"),
        ({"rope_parameters": 3}, "rope_parameters is 3"),
        ({"rms_norm_eps": [1]}, "rms_norm_eps"),
        ({"layer_types": 7}, "layer_types asks for 7"),
    ],
)
def test_what_our_model_can_not_do_is_refused_by_name(change: dict[str, Any], says: str) -> None:
    described = CONFIGS["qwen3"]().to_dict()
    assert huggingface.translate(described, Path("config.json")).qk_norm
    with pytest.raises(UserError, match=f"config.json: .*{says}"):
        huggingface.translate(described | change, Path("config.json"))


@pytest.mark.parametrize(
    "spelled", [{"rope_parameters": ROPE}, {"rope_parameters": ROPE, "rope_theta": None}, {"rope_theta": 5e5}]
)
def test_the_base_of_positions_is_found_in_every_spelling(spelled: dict[str, Any]) -> None:
    described = CONFIGS["qwen3"]().to_dict() | {"rope_parameters": None}
    assert huggingface.translate(described | spelled, Path("config.json")).rope_theta == 5e5


def test_weights_that_do_not_fit_their_description_are_named(
    tokenizer_folder: Path, tmp_path: Path, capsys: Output
) -> None:
    source = save("llama", tmp_path / "source", tokenizer_folder)
    whole = load_file(source / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    for weights, says in (
        ({key: value for key, value in whole.items() if key != name}, f"has no weight {name}"),
        (
            whole | {"model.layers.1.self_attn.q_proj.bias": torch.zeros(64)},
            "has a weight model.layers.1.self_attn.q_proj",
        ),
        (whole | {name: torch.zeros(90, 64)}, rf"{name} has the shape (90, 64)"),
        (whole | {"lm_head.weight": torch.zeros(512, 64)}, "lm_head and embed_tokens differ"),
    ):
        save_file(weights, source / "model.safetensors")
        assert cli.main(["import", str(source), str(tmp_path / "model")]) == 1
        assert says in capsys.readouterr().err
    (source / "model.safetensors").write_bytes(b"nothing")
    assert cli.main(["import", str(source), str(tmp_path / "model")]) == 1
    assert "can't be read" in capsys.readouterr().err
    (source / "model.safetensors").unlink()
    assert cli.main(["import", str(source), str(tmp_path / "model")]) == 1
    assert "pickled weights are not read" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


def test_other_logits_are_noticed(tokenizer_folder: Path, tmp_path: Path, capsys: Output) -> None:
    """A key that our reader takes no notice of, and transformers does, would show here."""
    source = save("llama", tmp_path / "source", tokenizer_folder)
    model = checkpoint.Decoder(huggingface.read(source).config)
    model.load_state_dict(huggingface.read(source).weights)
    model.model.layers[1].self_attn.o_proj.weight.data[0, 0] += 0.1
    with pytest.raises(IntakeError, match="compute different logits"):
        parity.difference(model, source)
    described = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(described | {"model_type": "unheard"}))
    with pytest.raises(IntakeError, match="can't compute with"):
        parity.difference(model, source)


def test_without_transformers_the_message_says_what_was_not_compared(
    tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    source = save("llama", tmp_path / "source", tokenizer_folder)
    monkeypatch.setattr(parity, "installed", lambda: False)
    assert cli.main(["import", str(source), str(tmp_path / "model")]) == 0
    assert "logits were not compared, since transformers is not installed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("config.json", "[]", "config.json is no JSON object"),
        ("config.json", "{", "config.json is not JSON"),
        ("generation_config.json", "7", "generation_config.json is no JSON object"),
        ("generation_config.json", '{"temperature": "hot"}', "temperature is 'hot'"),
        ("model.safetensors.index.json", "{}", "weight_map is no object"),
        ("model.safetensors.index.json", '{"weight_map": {"a": 5}}', "weight_map is no object"),
        ("model.safetensors.index.json", '{"weight_map": {"a": "../config.json"}}', "names ../config.json"),
        ("model.safetensors.index.json", '{"weight_map": {"a": "gone.safetensors"}}', "names gone.safetensors"),
    ],
)
def test_files_of_other_types_are_named(tmp_path: Path, name: str, content: str, says: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIGS["llama"]().to_dict()))
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=says):
        huggingface.read(tmp_path)
