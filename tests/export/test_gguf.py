"""GGUF, as llama.cpp reads it: the same tokens, the same words, nearly the same numbers."""

import random
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf as library
import numpy as np
import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from toy.conversations import CASES
from transformers import AutoModelForCausalLM

from benchmarks.interchange import Llama
from minimind import checkpoint, files, tokenizer
from minimind.chat import Chat
from minimind.export import contents as reading
from minimind.export import gguf, vocabulary
from minimind.export.contents import ExportError
from minimind.generate import generate
from minimind.tokenizer import TokenizerConfig

torch.set_num_threads(1)

KINDS = ("llama", "qwen3", "experts", "experts-top1-tied")
PROMPT = [1, 60, 300, 41, 7, 200]
LEARNED = [
    "The capital of France is Paris. Paris lies on the Seine, and the Seine runs to the sea.",
    "法国的首都是巴黎。巴黎在塞纳河边，塞纳河流向大海。",
    "\n\n\nThe  end.\n\n国\t\tのの 12 and 12, 345",
]


@pytest.mark.parametrize("kind", KINDS)
def test_llama_cpp_says_the_same(kind: str, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    contents, model = reading.read(checkpoints[kind]), checkpoint.load(checkpoints[kind])
    gguf.write(contents, tmp_path / "model.gguf")
    with Llama(tmp_path / "model.gguf", 256) as llama:
        assert llama.greedy(PROMPT, 64) == generate(model, [PROMPT], max_new_tokens=64, stop=-1)[0]
        printable = tokenizer.load(checkpoints[kind]).token_to_id("a")
        scores = llama.logprobs(PROMPT, model.config.vocab_size, printable)
    ids = torch.tensor([PROMPT])
    with torch.no_grad():
        ours = model.logits(model(ids, torch.ones_like(ids))[0])[0, -1].log_softmax(-1)
    torch.testing.assert_close(scores, ours, rtol=1e-4, atol=1e-4)


def texts(seed: int, count: int) -> Iterator[str]:
    """Text of any shape. Blanks before a Han character come one at a time: see vocabulary's docstring."""
    source = random.Random(seed)
    pieces = [
        "Paris",
        " the",
        "巴黎",
        "河，",
        "12",
        "٣",
        " ",
        "\t",
        "'s",
        "é",
        "😀",
        "の",
        "\u3000",
        "{}",
        "<|",
        "...",
        "龘",
        "ß",
    ]
    blanks = [" a", "\n\nThe", "  1", " \n ", "\n\n\n!", "\u00a0\u00a0x", "\n\n法", "  国"]
    for _ in range(count):
        yield "".join(source.choices(pieces, k=6)) + "".join(
            source.choice(blanks) + source.choice(["x", "é ", ".", "巴"]) for _ in range(3)
        )


def assert_same_ids(llama: Llama, ours: Tokenizer, marked: str) -> None:
    """Of many texts alone, and of each of them in `marked` with its markers."""
    plain = tokenizer.plain(ours)
    for text in texts(1, 300):
        assert llama.tokenize(text) == plain.encode(text).ids, text
        whole = marked.format(text)
        assert llama.tokenize(whole, markers=True) == ours.encode(whole).ids, text


@pytest.mark.parametrize("isolate", [True, False])
def test_llama_cpp_cuts_and_merges_the_same(isolate: bool, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    config = TokenizerConfig(vocab_size=512, isolate=isolate, max_bytes=1 << 20, held_out_share=0.1)
    ours = tokenizer.train(LEARNED * 4, config)
    (tmp_path / "tokenizer").mkdir()
    tokenizer.save(ours, tmp_path / "tokenizer")
    model = checkpoint.load(checkpoints["llama"])
    checkpoint.save(tmp_path / "model", model, tmp_path / "tokenizer", {})
    contents = reading.read(tmp_path / "model")
    assert vocabulary.describe(contents).cut == ("smollm" if isolate else "gpt-2")
    gguf.write(contents, tmp_path / "model.gguf")
    with Llama(tmp_path / "model.gguf", 256) as llama:
        assert_same_ids(llama, ours, "<|im_start|>user\n{0}<think>{0}</think><|im_end|>")


def test_llama_cpp_cuts_as_qwen_does(
    checkpoints: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = Tokenizer(models.BPE())
    theirs.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(vocabulary.QWEN2), "isolated")
    theirs.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    theirs.decoder, alphabet = decoders.ByteLevel(), pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet, show_progress=False)
    theirs.train_from_iterator([*LEARNED, *texts(2, 100)] * 2, trainer)
    theirs.add_special_tokens(["<|endoftext|>", "<|im_end|>"])  # behind the others, as Qwen's
    (tmp_path / "tokenizer").mkdir()
    theirs.save(str(tmp_path / "tokenizer" / "tokenizer.json"))
    files.write_json(tmp_path / "tokenizer" / "tokenizer_config.json", {"eos_token": "<|im_end|>"})
    checkpoint.save(tmp_path / "model", checkpoint.load(checkpoints["qwen3"]), tmp_path / "tokenizer", {})
    contents = reading.read(tmp_path / "model")
    assert vocabulary.describe(contents).cut == "qwen2"
    assert "note: " in (said := capsys.readouterr().out) and "brings texts into NFC, and llama.cpp does not" in said
    gguf.write(contents, tmp_path / "model.gguf")
    plain = tokenizer.plain(theirs)
    with Llama(tmp_path / "model.gguf", 256) as llama:
        assert_same_ids(llama, theirs, "{0}<|im_end|>{0}<|endoftext|>")
        parted = unicodedata.normalize("NFD", "né")  # what the note is about
        assert llama.tokenize(parted) != plain.encode(parted).ids == llama.tokenize("né")


def test_llama_cpp_renders_the_template_the_same(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    gguf.write(reading.read(checkpoints["llama"]), tmp_path / "model.gguf")
    chat = Chat(checkpoints["llama"])
    with Llama(tmp_path / "model.gguf", 256) as llama:
        for name, theirs, ours, tools, thinking in CASES:
            options: dict[str, Any] = {"tools": tools} if tools else {}
            if thinking is not None:
                options["chat_template_kwargs"] = {"enable_thinking": thinking}
            assert llama.render(theirs, **options) == chat.render(ours, tools, True, thinking), name


def test_a_file_says_what_it_is(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    told = {}
    for kind in ("llama", "experts"):
        gguf.write(reading.read(checkpoints[kind]), tmp_path / kind)
        fields = library.GGUFReader(tmp_path / kind).fields
        names = ("general.type", "general.license", "general.size_label", "tokenizer.ggml.eot_token_id")
        told[kind] = [fields[name].contents() for name in names]
    sizes = {kind: checkpoint.load(checkpoints[kind]).num_parameters() for kind in told}
    assert told["llama"] == ["model", "apache-2.0", f"{round(sizes['llama'] / 1000)}K", tokenizer.EOS]
    assert told["experts"][2].startswith("4x") and told["experts"][3] == tokenizer.EOS


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_read_back_is_what_was_written(kind: str, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    contents = reading.read(checkpoints[kind])
    for quantize, tolerance in (("f32", 0.0), ("f16", 1e-3), ("bf16", 1e-2), ("q8_0", 2e-2)):
        path = tmp_path / quantize
        gguf.write(contents, path, quantize)
        weights = gguf.read_weights(path, contents)
        assert weights.keys() == contents.tensors.keys()
        for name, weight in contents.tensors.items():
            torch.testing.assert_close(weights[name], weight, rtol=0, atol=tolerance)
    sizes = [(tmp_path / quantize).stat().st_size for quantize in ("f32", "f16", "q8_0")]
    assert sizes == sorted(sizes, reverse=True)
    content = (tmp_path / "q8_0").read_bytes()
    gguf.write(contents, tmp_path / "q8_0", "q8_0")
    assert (tmp_path / "q8_0").read_bytes() == content


def test_rows_that_are_no_multiple_of_a_block_stay_in_fp16(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    contents = reading.read(checkpoints["llama"])
    name = "model.layers.0.mlp.down_proj.weight"
    contents.tensors[name] = contents.tensors[name][:, :90]
    gguf.write(contents, tmp_path / "model.gguf", "q8_0")
    kinds = {tensor.name: tensor.tensor_type.name for tensor in library.GGUFReader(tmp_path / "model.gguf").tensors}
    assert kinds["blk.0.ffn_down.weight"] == "F16" and kinds["blk.1.ffn_down.weight"] == "Q8_0"
    assert kinds["output_norm.weight"] == "F32"


def yarn(folder: Path, parent: Path, **changes: Any) -> Path:
    """The checkpoint `parent` with positions stretched."""
    rope = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 64, **changes}
    folder.mkdir()
    for path in parent.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config = files.read_json(folder / "config.json")
    del config["rope_theta"]
    files.write_json(folder / "config.json", config | {"rope_parameters": rope})
    files.write_manifest(folder, {"model": files.read_manifest(parent)["model"], "lineage": {}})
    return folder


def test_llama_cpp_stretches_positions_as_transformers_does(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    folder = yarn(tmp_path / "yarn", checkpoints["qwen3"])
    gguf.write(reading.read(folder), tmp_path / "model.gguf")
    theirs = AutoModelForCausalLM.from_pretrained(folder)
    prompt = [int(number) for number in np.random.default_rng(1).integers(36, 300, 150)]
    with torch.no_grad():
        logits = theirs(torch.tensor([prompt])).logits[0, -1].log_softmax(-1)
        plain = checkpoint.load(checkpoints["qwen3"])
        ids = torch.tensor([prompt])
        unstretched = plain.logits(plain(ids, torch.ones_like(ids))[0])[0, -1].log_softmax(-1)
    printable = tokenizer.load(folder).token_to_id("a")
    with Llama(tmp_path / "model.gguf", 256) as llama:
        scores = llama.logprobs(prompt, len(logits), printable)
    torch.testing.assert_close(scores, logits, rtol=1e-3, atol=1e-3)
    assert (scores - unstretched).abs().max() > 0.1


def test_what_llama_cpp_can_not_hold_is_refused_by_name(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"q4_k.*f32, f16, bf16, q8_0"):
        gguf.write(reading.read(checkpoints["llama"]), tmp_path / "x", "q4_k")
    with pytest.raises(ExportError, match=r"beta_fast is 16"):
        gguf.write(reading.read(yarn(tmp_path / "a", checkpoints["qwen3"], beta_fast=16)), tmp_path / "x")
    with pytest.raises(ExportError, match=r"attention_factor is 1\.0, and llama.cpp has 1\.138629"):
        gguf.write(reading.read(yarn(tmp_path / "b", checkpoints["qwen3"], attention_factor=1.0)), tmp_path / "x")
    with pytest.raises(ExportError, match="rope_type is 'llama3', and what can be written to GGUF"):
        gguf.write(reading.read(yarn(tmp_path / "c", checkpoints["qwen3"], rope_type="llama3")), tmp_path / "x")
    contents = reading.read(checkpoints["llama"])
    contents.tensors["model.layers.0.self_attn.q_proj.bias"] = torch.zeros(64)
    with pytest.raises(ExportError, match=r"q_proj\.bias has no place"):
        gguf.write(contents, tmp_path / "x")
    contents = reading.read(checkpoints["llama"])
    contents.tokenizer["pre_tokenizer"] = {"type": "Whitespace"}
    with pytest.raises(ExportError, match="no name for its pre_tokenizer"):
        gguf.write(contents, tmp_path / "x")
    contents.tokenizer["normalizer"] = {"type": "Lowercase"}
    with pytest.raises(ExportError, match=r"tokenizer\.json has a normalizer, Lowercase, and llama\.cpp"):
        gguf.write(contents, tmp_path / "x")
    contents.tokenizer["model"]["type"] = "WordPiece"
    with pytest.raises(ExportError, match="no byte-level BPE"):
        gguf.write(contents, tmp_path / "x")
    assert not (tmp_path / "x").exists()
