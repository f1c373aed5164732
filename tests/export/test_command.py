"""The subcommand: what it writes where, what it says, and what it refuses."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from minimind import checkpoint, cli, files
from minimind.export.command import TEXT
from minimind.rows import RowWriter
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
        assert f"exports/qwen3/gguf-{quantize}/qwen3-{quantize}.gguf: " in said
        found = re.search(r"on (\d+) tokens .*: ([\d.]+) of the checkpoint, ([\d.]+) of", said)
        assert found, said
        perplexities[quantize] = (float(found[2]), float(found[3]))
        assert int(found[1]) > 500
    for quantize in ("f32", "q8_0"):  # one leaves the other where it is
        assert Path(f"exports/qwen3/gguf-{quantize}/qwen3-{quantize}.gguf").is_file()
    assert perplexities["f32"][0] == perplexities["f32"][1] == perplexities["q8_0"][0]
    assert 0 < abs(perplexities["q8_0"][1] / perplexities["q8_0"][0] - 1) < 0.1

    model = checkpoint.load(checkpoints["qwen3"])
    assert cli.main(["export", source, "--to", "gguf", "--text", "nowhere.txt"]) == 0
    assert "perplexity not measured: there is no nowhere.txt" in capsys.readouterr().out
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


def test_an_adapter_stays_behind(checkpoints: dict[str, Path], text: Path, tmp_path: Path) -> None:
    """A checkpoint that LoRA made holds merged weights, and an adapter/ to the model before it."""
    source = tmp_path / "tuned"
    shutil.copytree(checkpoints["qwen3"], source)
    (source / "adapter").mkdir()
    (source / "adapter/adapter_config.json").write_text("{}")
    said = files.read_manifest(source)
    files.write_manifest(source, {"model": said["model"], "lineage": said["lineage"]})
    assert "adapter/adapter_config.json" in files.read_manifest(source)["files"]
    assert cli.main(["export", str(source), "--out", "small"]) == 0
    assert AutoModelForCausalLM.from_pretrained("small") and not Path("small/adapter").exists()


def test_a_class_of_our_own_goes_to_hf_with_its_code(
    checkpoints: dict[str, Path], tokenizer_folder: Path, text: Path, capsys: Output
) -> None:
    config = replace(checkpoint.load(checkpoints["experts"]).config, num_shared_experts=1)
    checkpoint.save(Path("shared"), checkpoint.Decoder(config), tokenizer_folder, {})
    for kind in ("gguf", "ollama", "onnx"):
        assert cli.main(["export", "shared", "--to", kind]) == 1
        assert "model_type is 'minimind', and what can be written to" in capsys.readouterr().err
    assert cli.main(["export", "shared", "--dtype", "bf16", "--out", "small"]) == 0
    theirs = AutoModelForCausalLM.from_pretrained("small", trust_remote_code=True, dtype="auto")
    ours = checkpoint.load(Path("small"))
    assert theirs.dtype == torch.bfloat16 and theirs.num_parameters() == ours.num_parameters()


def test_ollama_finds_its_file_and_its_template(checkpoints: dict[str, Path], text: Path, capsys: Output) -> None:
    assert cli.main(["export", str(checkpoints["llama"]), "--to", "ollama", "--quantize", "q8_0"]) == 0
    folder = Path("exports/llama/ollama-q8_0")
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


def test_checkpoints_of_equal_names_have_exports_of_their_own(
    checkpoints: dict[str, Path], text: Path, capsys: Output
) -> None:
    places = {"a/dpo": "a/dpo", "b/dpo": "b/dpo", "models/dpo": "dpo", str(checkpoints["llama"]): "llama"}
    for source in list(places)[:3]:
        shutil.copytree(checkpoints["llama"], source)
    written = set()
    for source, place in places.items():
        for options, form in ((["--to", "onnx"], "onnx"), ([], "hf-f32"), (["--dtype", "bf16"], "hf-bf16")):
            capsys.readouterr()
            assert cli.main(["export", source, *options]) == 0
            lines = [line.partition(": ")[0] for line in capsys.readouterr().out.splitlines()]
            assert all(line.startswith(f"exports/{place}/{form}/") for line in lines)
            written |= set(lines)
    assert written == {str(path) for path in Path("exports").rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", ["gguf", "ollama"])
def test_data_of_another_vocabulary_is_noticed_before_anything_is_written(
    kind: str, checkpoints: dict[str, Path], text: Path, capsys: Output
) -> None:
    command = ["export", str(checkpoints["llama"]), "--to", kind]
    for path in (TEXT, Path("other")):
        packed(path, 400)
    assert cli.main([*command, "--text", "other"]) == 1
    assert "other was packed with a vocabulary of 400" in capsys.readouterr().err
    assert not Path("exports").exists()
    # Without --text it is nobody's wish, and no reason not to export.
    assert cli.main(command) == 0
    said = capsys.readouterr().out
    assert f"perplexity not measured: {TEXT} was packed with a vocabulary of 400" in said
    assert Path(f"exports/llama/{kind}-f32/llama-f32.gguf").is_file()
    (TEXT / "validation.arrow").unlink()
    assert cli.main(command) == 0
    assert "perplexity not measured: " in capsys.readouterr().out


def packed(folder: Path, vocab_size: int) -> None:
    """A packed data set of one row."""
    folder.mkdir(parents=True)
    with RowWriter(folder / "validation.arrow", 12, vocab_size) as writer:
        writer.add([([1, 60, 300, 2], [0, 1, 1, 1], 1)])
    files.write_manifest(folder)


def test_what_stands_at_the_place_named_is_not_overwritten(
    checkpoints: dict[str, Path], text: Path, capsys: Output
) -> None:
    before = checkpoint.digest(checkpoints["llama"])
    for place in (checkpoints["llama"], checkpoints["llama"].parent):
        assert cli.main(["export", str(checkpoints["llama"]), "--out", str(place)]) == 1
        assert f"--out {place} exists" in capsys.readouterr().err
    assert checkpoint.digest(checkpoints["llama"]) == before
