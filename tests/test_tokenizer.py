"""The tokenizer: bytes in, the same bytes out, the same files every time, and transformers reads them."""

import hashlib
import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from minimind import tokenizer
from minimind.pointless import PointlessError
from minimind.tokenizer import BOS, EOS, PAD, SPECIAL_TOKENS, TokenizerConfig

TEXTS = [
    "The capital of France is Paris, and Paris lies on the Seine.",
    "法国的首都是巴黎。巴黎在塞纳河边。",
    "12 + 7 = 19, 19 + 23 = 42, and 42 is the answer to everything.",
]

TRAIN = """
import sys
from pathlib import Path
from minimind import tokenizer
texts = Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()
config = tokenizer.TokenizerConfig(1200, True, 1, 0.1)
tokenizer.save(tokenizer.train(texts, config), Path(sys.argv[2]))
"""

READ = """
import json, os, sys
from pathlib import Path
os.environ["USE_TORCH"] = "0"  # which takes long to import
import transformers
tokenizer = transformers.AutoTokenizer.from_pretrained(sys.argv[1])
ids = [tokenizer(text).input_ids for text in json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))]
decoded = [[tokenizer.decode(i, skip_special_tokens=skip) for i in ids] for skip in (False, True)]
print(json.dumps([transformers.__version__, type(tokenizer).__name__, len(tokenizer), sorted(tokenizer.all_special_ids),
                  tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id, ids, decoded]))
"""


def strings(seed: int, count: int = 200) -> list[str]:
    """Text of every kind: letters, digits, Han, spaces, emoji, control characters, markers."""
    source = random.Random(seed)
    pieces = [
        "a",
        "Paris",
        " the",
        "0",
        "42",
        "巴黎",
        "的",
        " ",
        "\n",
        "\t",
        "é",
        "😀",
        "\x00",
        "\u2028",
        "'s",
        ".",
        "<|",
    ]
    pieces += [chr(code) for code in range(0x3400, 0x3410)] + list(SPECIAL_TOKENS)
    return ["".join(source.choices(pieces, k=source.randint(1, 20))) for _ in range(count)]


@pytest.fixture(scope="module")
def trained(tokenizer_folder):
    return tokenizer.load(tokenizer_folder)


def test_markers_have_minimind_s_ids(trained):
    assert len(SPECIAL_TOKENS) == 36
    assert [trained.token_to_id(token) for token in SPECIAL_TOKENS] == list(range(36))
    assert [SPECIAL_TOKENS[i] for i in (PAD, BOS, EOS)] == ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    assert trained.encode("<|im_start|>x<|im_end|>").ids[::2] == [BOS, EOS]


def test_only_answers_keep_their_markers_when_decoded(trained):
    assert trained.decode([*range(36)]) == "".join(SPECIAL_TOKENS[21:])
    assert trained.decode([*range(36)], skip_special_tokens=False) == "".join(SPECIAL_TOKENS)


@pytest.mark.parametrize("isolate", [True, False])
def test_every_text_comes_back(isolate):
    config = TokenizerConfig(vocab_size=400, isolate=isolate, max_bytes=1, held_out_share=0.1)
    trained = tokenizer.train(TEXTS * 4, config)
    for text in strings(1):
        ids = trained.encode(text).ids
        assert trained.decode(ids, skip_special_tokens=False) == text


def test_isolated_characters_read_the_same_everywhere(trained):
    seven, china = trained.encode("7").ids, trained.encode("中").ids
    for around in ("a{}b", " {} ", "1{}2", "国{}国", "\n{}."):
        for character, ids in (("7", seven), ("中", china)):
            before, after = around.split("{}")
            text = trained.encode(before).ids + ids + trained.encode(after).ids
            assert trained.encode(around.format(character)).ids == text


def test_text_without_isolation_merges_more():
    texts = ["2024年的首都 2024年的首都"] * 8
    sizes = {}
    for isolate in (True, False):
        config = TokenizerConfig(vocab_size=400, isolate=isolate, max_bytes=1, held_out_share=0.1)
        sizes[isolate] = len(tokenizer.train(texts, config).encode(texts[0]).ids)
    assert sizes[False] < sizes[True] / 2


def test_plain_text_never_holds_a_marker(trained):
    plain = tokenizer.plain(trained)
    for text in strings(2):
        ids = plain.encode(text).ids
        assert min(ids) >= len(SPECIAL_TOKENS)
        assert trained.decode(ids) == text


def test_token_bytes_add_up_to_the_text(trained):
    sizes = tokenizer.token_bytes(trained)
    assert sizes[:36] == [0] * 36
    for text in strings(3):
        assert sum(sizes[i] for i in tokenizer.plain(trained).encode(text).ids) == len(text.encode())


def test_files_are_equal_whatever_the_number_of_threads(tmp_path):
    lines = [line.replace("\n", " ") for line in strings(4, 2000)]
    (tmp_path / "texts").write_text("\n".join(lines), encoding="utf-8")
    digests = []
    for threads in ("1", "2", "4"):
        folder = tmp_path / threads
        folder.mkdir()
        environment = os.environ | {"RAYON_NUM_THREADS": threads, "PYTHONHASHSEED": threads}
        subprocess.run([sys.executable, "-c", TRAIN, tmp_path / "texts", folder], check=True, env=environment)
        digests.append([hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())])
    assert digests[0] == digests[1] == digests[2] and len(digests[0]) == 2


def test_transformers_5_reads_the_files(trained, tokenizer_folder):
    theirs = AutoTokenizer.from_pretrained(tokenizer_folder)
    assert len(theirs) == trained.get_vocab_size()
    assert (theirs.pad_token_id, theirs.bos_token_id, theirs.eos_token_id) == (PAD, BOS, EOS)
    assert sorted(theirs.all_special_ids) == list(range(21))
    for text in strings(5):
        ids = trained.encode(text).ids
        assert theirs(text).input_ids == ids
        for skip in (False, True):
            assert theirs.decode(ids, skip_special_tokens=skip) == trained.decode(ids, skip_special_tokens=skip)


def test_transformers_4_reads_the_files(trained, tokenizer_folder, transformers4, tmp_path):
    texts = strings(6)
    (tmp_path / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
    version, kind, size, special, pad, bos, eos, ids, decoded = json.loads(
        transformers4(READ, tokenizer_folder, tmp_path / "texts.json")
    )
    assert version.startswith("4.57.") and kind == "PreTrainedTokenizerFast"
    assert (size, special, pad, bos, eos) == (trained.get_vocab_size(), list(range(21)), PAD, BOS, EOS)
    assert ids == [trained.encode(text).ids for text in texts]
    assert decoded == [[trained.decode(i, skip_special_tokens=skip) for i in ids] for skip in (False, True)]


def test_a_foreign_tokenizer_is_refused(trained, tmp_path):
    description = json.loads(trained.to_str())
    description["added_tokens"][25]["content"] = "<thought>"
    del description["model"]["vocab"]["<think>"]
    description["model"]["vocab"]["<thought>"] = 25
    (tmp_path / "tokenizer.json").write_text(json.dumps(description), encoding="utf-8")
    with pytest.raises(ValueError, match="<think> has id None, expected 25"):
        tokenizer.load(tmp_path)


@pytest.mark.parametrize(
    ("field", "value"), [("vocab_size", 291), ("max_bytes", 0), ("held_out_share", 0.0), ("held_out_share", 1.0)]
)
def test_impossible_configurations_name_their_field(field, value):
    good = {"vocab_size": 292, "isolate": True, "max_bytes": 1, "held_out_share": 0.1}
    assert TokenizerConfig(**good)
    with pytest.raises(ValueError, match=rf"tokenizer\.{field}"):
        TokenizerConfig(**good | {field: value})


def test_a_small_corpus_gives_a_small_vocabulary():
    config = TokenizerConfig(vocab_size=6400, isolate=True, max_bytes=1, held_out_share=0.1)
    assert 292 < tokenizer.train(TEXTS * 2, config).get_vocab_size() < 6400


def test_stored_template_is_the_source(tokenizer_folder: Path):
    stored = json.loads((tokenizer_folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert stored["chat_template"] == tokenizer.CHAT_TEMPLATE


def test_a_vocabulary_without_merges_is_refused_unless_it_was_asked_for(capsys):
    config = TokenizerConfig(vocab_size=512, isolate=True, max_bytes=1, held_out_share=0.1)
    with pytest.raises(PointlessError, match=r"merges: 0 of 220 are left.*tokenizer\.max_bytes, which is 1,"):
        tokenizer.check(tokenizer.train([], config), config)
    few = tokenizer.train(["ab ab", "ab"], config)
    tokenizer.check(few, config)
    assert "WARNING: tokenizer: merges: " in capsys.readouterr().err
    bytes_only = replace(config, vocab_size=tokenizer.SMALLEST)
    tokenizer.check(tokenizer.train([], bytes_only), bytes_only)
    assert capsys.readouterr().err == ""
