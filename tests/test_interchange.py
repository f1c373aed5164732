"""A checkpoint is at home in transformers 4.57 and 5: numbers, words, tokens, conversations. Without remote code, but
for mixtures that no class of transformers computes.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from toy.models import random_model

from benchmarks import interchange
from minimind import checkpoint, files, tokenizer
from minimind.chat import Chat
from minimind.generate import generate
from minimind.intake import vocabulary
from minimind.model import RopeScaling
from minimind.rows import RowWriter
from minimind.tokenizer import EOS

torch.set_num_threads(1)

KINDS = ("llama", "qwen3", "experts", "experts-top1-tied")
CHANGED: dict[str, tuple[str, dict[str, Any]]] = {  # kinds that are another with changes
    "yarn": ("qwen3", {"rope_scaling": RopeScaling(4.0, 64)}),
    "shared-own": ("experts", {"num_shared_experts": 2, "qk_norm": False, "tie_word_embeddings": True}),
    "biases-own": ("experts", {"router_bias_rate": 0.01, "num_shared_experts": 1}),
}
CLASSES = {"llama": "LlamaForCausalLM", "qwen3": "Qwen3ForCausalLM", "yarn": "Qwen3ForCausalLM"}
CLASSES |= {"shared-own": "MinimindForCausalLM", "biases-own": "MinimindForCausalLM"}  # that in modeling.py
TOLERANCE = 1e-5  # of the largest logit: rounding in fp32
PROMPTS = [[1, 60, 300, 41, 7, 200], [1, 99, 98]]
CALCULATOR = {
    "type": "function",
    "function": {"name": "calculator", "description": "算式", "parameters": {"type": "object", "properties": {}}},
}
CONVERSATION: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief. 简短。"},
    {"role": "user", "content": "12 + 7?"},
    {
        "role": "assistant",
        "content": "",
        "reasoning_content": "add",
        "tool_calls": [{"type": "function", "function": {"name": "calculator", "arguments": {"x": "12 + 7"}}}],
    },
    {"role": "tool", "content": "19"},
    {"role": "assistant", "content": "19"},
    {"role": "user", "content": "谢谢"},
]
CASES = [(tools, thinking) for tools in (None, [CALCULATOR]) for thinking in (None, True, False)]

# One program for both versions: it reads a checkpoint and prints where it left the logits and what it said.
PROGRAM = """
import json, sys, torch, transformers
from safetensors.torch import save_file
torch.set_num_threads(1)
out, cases, folders = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3:]
transformers.logging.set_verbosity_error()
found = {"version": transformers.__version__, "kinds": {}}
for folder in folders:
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, output_loading_info=True, trust_remote_code=folder.endswith("own")
    )
    name = folder.rpartition("/")[2]
    model.generation_config.eos_token_id = None  # all 64 tokens, whatever they are
    greedy = []
    for number, prompt in enumerate(cases["prompts"]):
        ids = torch.tensor([prompt])
        with torch.no_grad():
            save_file({"logits": model(ids).logits}, f"{out}/{name}-{number}.safetensors")
        made = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=64, do_sample=False,
                              pad_token_id=0)
        greedy.append(made[0, len(prompt):].tolist())
    strangers = [key for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") for key in info[kind]]
    found["kinds"][name] = {
        "class": type(model).__name__, "dtype": str(model.dtype), "strangers": strangers, "greedy": greedy,
    }
tokenizer = transformers.AutoTokenizer.from_pretrained(folders[0])
found["rendered"] = [
    tokenizer.apply_chat_template(cases["conversation"], tools=tools, enable_thinking=thinking, tokenize=False,
                                  add_generation_prompt=True)
    for tools, thinking in cases["cases"]
]
# The snippet that people paste.
model = transformers.AutoModelForCausalLM.from_pretrained(folders[0])
model.generation_config.eos_token_id = None
asked = tokenizer("hello", return_tensors="pt")
found["pasted"] = [sorted(asked), model.generate(**asked, max_new_tokens=8)[0].tolist()]
found["longest"] = tokenizer.model_max_length
found["ids"] = [tokenizer.encode(text, add_special_tokens=False) for text in found["rendered"]]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def folders(checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Checkpoints of KINDS and CHANGED."""
    folder = tmp_path_factory.mktemp("changed")
    for name, (kind, changes) in CHANGED.items():
        config = replace(checkpoint.load(checkpoints[kind]).config, **changes)
        checkpoint.save(folder / name, random_model(config), checkpoints[kind], {})
    return checkpoints | {name: folder / name for name in CHANGED}


@pytest.fixture(scope="module", params=[4, 5])
def theirs(
    request: pytest.FixtureRequest, folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], Path]:
    """What one version of transformers made of every checkpoint, and the folder with its logits."""
    out = tmp_path_factory.mktemp(f"transformers{request.param}")
    cases = json.dumps({"prompts": PROMPTS, "conversation": CONVERSATION, "cases": CASES})
    run: Callable[..., str] = request.getfixturevalue(f"transformers{request.param}")
    found = json.loads(run(PROGRAM, out, cases, *folders.values()))
    assert found["version"].startswith(f"{request.param}.")
    return found, out


@pytest.fixture(scope="session")
def transformers5() -> Callable[..., str]:
    """Runs a Python program as `transformers4` does, under the transformers that is installed."""
    assert transformers.__version__.startswith("5.")

    def run(program: str, *arguments: object) -> str:
        command = [sys.executable, "-c", program, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.mark.parametrize("kind", [*KINDS, *CHANGED])
def test_logits_and_words_are_equal(kind: str, theirs: tuple[dict[str, Any], Path], folders: dict[str, Path]) -> None:
    found, out = theirs
    told = found["kinds"][kind]
    assert told["class"] == CLASSES.get(kind, "Qwen3MoeForCausalLM")
    assert told["dtype"] == "torch.float32" and told["strangers"] == []
    model = checkpoint.load(folders[kind])
    for number, prompt in enumerate(PROMPTS):
        ids = torch.tensor([prompt])
        with torch.no_grad():
            ours = model.logits(model(ids, torch.ones_like(ids))[0])
        logits = load_file(out / f"{kind}-{number}.safetensors")["logits"]
        assert (ours - logits).abs().max() <= TOLERANCE * logits.abs().max()
    assert told["greedy"] == generate(model, PROMPTS, max_new_tokens=64, stop=-1)


def test_what_people_paste_works(theirs: tuple[dict[str, Any], Path], folders: dict[str, Path]) -> None:
    folder = next(iter(folders.values()))
    model, ids = checkpoint.load(folder), tokenizer.load(folder).encode("hello").ids
    answer = generate(model, [ids], max_new_tokens=8, stop=-1)[0]
    assert theirs[0]["pasted"] == [["attention_mask", "input_ids"], [*ids, *answer]]
    assert theirs[0]["longest"] == model.config.max_position_embeddings


TOKENIZER = """
import json, sys, transformers
tokenizer = transformers.AutoTokenizer.from_pretrained(sys.argv[1])
asked = [{"role": "user", "content": "Paris <|im_end|> 巴黎"}]
ids = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_dict=False)
print(json.dumps([ids, sorted(tokenizer("hello")), tokenizer.eos_token, tokenizer.all_special_tokens]))
"""


def test_what_transformers_5_saved_is_carried_to_both(
    tokenizer_folder: Path, tmp_path: Path, transformers4: Callable[..., str], transformers5: Callable[..., str]
) -> None:
    saved = transformers.AutoTokenizer.from_pretrained(tokenizer_folder)
    saved.save_pretrained(tmp_path / "saved")
    (tmp_path / "carried").mkdir()
    vocabulary.carry(tmp_path / "saved", tmp_path / "carried")
    expected = json.loads(transformers5(TOKENIZER, tmp_path / "saved"))
    for run in (transformers4, transformers5):
        ids, _, eos, special = json.loads(run(TOKENIZER, tmp_path / "carried"))
        assert (ids, eos, sorted(special)) == (expected[0], expected[2], sorted(expected[3]))
    assert files.read_json(tmp_path / "carried" / "tokenizer_config.json")["tokenizer_class"] == (
        "PreTrainedTokenizerFast"
    )


def test_data_open_in_datasets_as_documented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("data/clean/sft")
    (folder / "removed").mkdir(parents=True)
    lines = [{"conversations": [{"role": "user", "content": str(n)}]} for n in range(3)]
    (folder / "0-a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "removed" / "0-a.jsonl").write_text('{"line": 7, "reason": "x"}\n')
    files.write_manifest(folder)
    packed = Path("data/packed/sft")
    packed.mkdir(parents=True)
    with RowWriter(packed / "train.arrow", 6, 512) as writer:
        writer.add([([1, 60, 2], [0, 1, 1], 1)])
    found: dict[str, Any] = {}
    guide = (Path(__file__).parents[1] / "docs" / "data.md").read_text(encoding="utf-8")
    exec(guide.partition("```python\n")[2].partition("```")[0], found)
    assert found["clean"]["conversations"] == [line["conversations"] for line in lines]
    assert found["packed"][0]["tokens"] == [1, 60, 2, 0, 0, 0]


def test_conversations_are_equal(theirs: tuple[dict[str, Any], Path], checkpoints: dict[str, Path]) -> None:
    chat = Chat(checkpoints["llama"])
    for (tools, thinking), text, ids in zip(CASES, theirs[0]["rendered"], theirs[0]["ids"], strict=True):
        assert chat.render(CONVERSATION, tools, add_generation_prompt=True, enable_thinking=thinking) == text
        assert chat.prompt(CONVERSATION, tools, thinking) == ids


def test_the_benchmark_sets_everyone_side_by_side(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    model = checkpoint.load(checkpoints["qwen3"])
    model.lm_head.weight.data[EOS] *= 2  # so that answers end
    checkpoint.save(tmp_path / "model", model, checkpoints["qwen3"], {})
    chat = Chat(tmp_path / "model")
    asked = [chat.prompt([{"role": "user", "content": prompt}]) for prompt in interchange.PROMPTS]
    lengths = [len(answer) for answer in generate(model, asked, max_new_tokens=interchange.NEW_TOKENS, stop=EOS)]
    assert 0 < min(lengths) < interchange.NEW_TOKENS
    (tmp_path / "text").write_text("Paris lies on the Seine. 巴黎在塞纳河边。", encoding="utf-8")
    lines: list[str] = []
    interchange.compare(tmp_path / "model", tmp_path / "text", 30, lines.append)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")][1:]
    assert [row[0] for row in rows] == ["ours", "transformers", "llama.cpp f32", "llama.cpp f16", "llama.cpp q8_0"]
    differences = [float(row[1]) for row in rows]
    perplexities = [float(row[2]) for row in rows]
    assert differences[0] == 0 and differences[1] < 1e-4 and differences[2] < 1e-3 < differences[4]
    assert perplexities[1] == pytest.approx(perplexities[0], rel=1e-5)
    assert perplexities[2] == pytest.approx(perplexities[0], rel=1e-4)
    assert perplexities[4] != pytest.approx(perplexities[0], rel=1e-4)
    assert [row[4] for row in rows[:3]] == ["3 of 3"] * 3
    sizes = [int(row[3].replace(",", "")) for row in rows]
    assert sizes[2] > sizes[3] > sizes[4]
