"""The subcommand: what it writes where, what it says, and what it refuses."""

import re
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from minimind import checkpoint, cli, files
from minimind.tokenizer import CHAT_TEMPLATE

torch.set_num_threads(1)

Output = pytest.CaptureFixture[str]


@pytest.fixture
def text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A text to measure perplexity on, in an empty folder that is the current one."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "text.txt"
    path.write_text("The capital of France is Paris. 法国的首都是巴黎。<|im_end|>" * 30, encoding="utf-8")
    return path


def test_gguf_reports_what_quantisation_costs(checkpoints: dict[str, Path], text: Path, capsys: Output) -> None:
    source = str(checkpoints["qwen3"])
    perplexities = {}
    for quantize in ("f32", "q8_0"):
        command = ["export", source, "--to", "gguf", "--quantize", quantize, "--text", str(text), "--tokens", "600"]
        assert cli.main(command) == 0
        said = capsys.readouterr().out
        assert (text.parent / f"exports/qwen3/gguf/qwen3-{quantize}.gguf").is_file()
        found = re.search(r"on (\d+) tokens .*: ([\d.]+) of the checkpoint, ([\d.]+) of", said)
        assert found, said
        perplexities[quantize] = (float(found[2]), float(found[3]))
        assert int(found[1]) > 500
    assert perplexities["f32"][0] == perplexities["f32"][1] == perplexities["q8_0"][0]
    assert 0 < abs(perplexities["q8_0"][1] / perplexities["q8_0"][0] - 1) < 0.1

    model = checkpoint.load(checkpoints["qwen3"])
    assert cli.main(["export", source, "--to", "gguf", "--text", "nowhere.txt"]) == 0
    assert "not measured, there is no nowhere.txt" in capsys.readouterr().out
    assert model.config.qk_norm


@pytest.mark.parametrize(("dtype", "tolerance"), [("f32", 0.0), ("bf16", 2**-8), ("f16", 2**-11)])
def test_hf_is_a_checkpoint_in_another_dtype(
    dtype: str, tolerance: float, checkpoints: dict[str, Path], text: Path
) -> None:
    source = checkpoints["experts"]
    assert cli.main(["export", str(source), "--dtype", dtype, "--out", "small"]) == 0
    theirs = AutoModelForCausalLM.from_pretrained("small", dtype="auto")
    assert theirs.dtype == {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}[dtype]
    before, after = checkpoint.load(source), checkpoint.load(Path("small"))
    for one, other in zip(before.parameters(), after.parameters(), strict=True):
        torch.testing.assert_close(other, one, rtol=tolerance, atol=2**-24 if tolerance else 0)
    lineage = files.read_manifest(Path("small"))["lineage"]
    assert lineage["inputs"] == {"checkpoint": checkpoint.digest(source)}


def test_ollama_finds_its_file_and_its_template(checkpoints: dict[str, Path], text: Path, capsys: Output) -> None:
    assert cli.main(["export", str(checkpoints["llama"]), "--to", "ollama", "--quantize", "q8_0"]) == 0
    folder = Path("exports/llama/ollama")
    lines = (folder / "Modelfile").read_text(encoding="utf-8").splitlines()
    assert (folder / lines[0].removeprefix("FROM ")).is_file()
    assert lines[-3:] == ['PARAMETER stop "<|im_end|>"', "PARAMETER num_ctx 256", "PARAMETER temperature 0"]
    capsys.readouterr()

    other = Path("other")
    other.mkdir()
    for path in checkpoints["llama"].iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    described = files.read_json(other / "tokenizer_config.json")
    files.write_json(other / "tokenizer_config.json", described | {"chat_template": CHAT_TEMPLATE + "\n"})
    files.write_manifest(other, {"model": files.read_manifest(checkpoints["llama"])["model"]})
    assert cli.main(["export", "other", "--to", "ollama"]) == 1
    assert "chat_template is not the one" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--to", "onnx", "--quantize", "q8_0"], "--quantize is for gguf and ollama, not for onnx"),
        (["--to", "gguf", "--dtype", "bf16"], "--dtype is for hf, not for gguf"),
    ],
)
def test_wishes_that_make_no_sense_are_refused(
    options: list[str], says: str, checkpoints: dict[str, Path], text: Path, capsys: Output
) -> None:
    assert cli.main(["export", str(checkpoints["llama"]), *options]) == 1
    assert says in capsys.readouterr().err
    assert not Path("exports").exists()


def test_a_checkpoint_is_not_overwritten_by_its_export(
    checkpoints: dict[str, Path], text: Path, capsys: Output
) -> None:
    before = checkpoint.digest(checkpoints["llama"])
    assert cli.main(["export", str(checkpoints["llama"]), "--out", str(checkpoints["llama"])]) == 1
    assert "is the checkpoint itself" in capsys.readouterr().err
    assert checkpoint.digest(checkpoints["llama"]) == before
