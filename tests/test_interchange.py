"""A checkpoint is at home in transformers 4.57 and 5, without remote code: numbers, words, tokens, conversations."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file

from minimind import checkpoint
from minimind.chat import Chat
from minimind.generate import generate

torch.set_num_threads(1)

KINDS = ("llama", "qwen3", "experts", "experts-top1-tied")
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
    model, info = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    name = folder.rpartition("/")[2]
    greedy = []
    for number, prompt in enumerate(cases["prompts"]):
        ids = torch.tensor([prompt])
        with torch.no_grad():
            save_file({"logits": model(ids).logits}, f"{out}/{name}-{number}.safetensors")
        made = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=64, min_new_tokens=64,
                              do_sample=False, pad_token_id=0, eos_token_id=None)
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
found["ids"] = [tokenizer.encode(text, add_special_tokens=False) for text in found["rendered"]]
print(json.dumps(found))
"""


@pytest.fixture(scope="module", params=[4, 5])
def theirs(
    request: pytest.FixtureRequest, checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], Path]:
    """What one version of transformers made of every checkpoint, and the folder with its logits."""
    out = tmp_path_factory.mktemp(f"transformers{request.param}")
    cases = json.dumps({"prompts": PROMPTS, "conversation": CONVERSATION, "cases": CASES})
    run: Callable[..., str] = request.getfixturevalue(f"transformers{request.param}")
    found = json.loads(run(PROGRAM, out, cases, *checkpoints.values()))
    assert found["version"].startswith(f"{request.param}.")
    return found, out


@pytest.fixture(scope="session")
def transformers5() -> Callable[..., str]:
    """Runs a Python program as `transformers4` does, under the transformers that is installed."""
    assert transformers.__version__.startswith("5.")

    def run(program: str, *arguments: object) -> str:
        import subprocess
        import sys

        command = [sys.executable, "-c", program, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.mark.parametrize("kind", KINDS)
def test_logits_and_words_are_equal(
    kind: str, theirs: tuple[dict[str, Any], Path], checkpoints: dict[str, Path]
) -> None:
    found, out = theirs
    told = found["kinds"][kind]
    classes = {"llama": "LlamaForCausalLM", "qwen3": "Qwen3ForCausalLM"}
    assert told["class"] == classes.get(kind, "Qwen3MoeForCausalLM")
    assert told["dtype"] == "torch.float32" and told["strangers"] == []
    model = checkpoint.load(checkpoints[kind])
    for number, prompt in enumerate(PROMPTS):
        ids = torch.tensor([prompt])
        with torch.no_grad():
            ours = model.logits(model(ids, torch.ones_like(ids))[0])
        logits = load_file(out / f"{kind}-{number}.safetensors")["logits"]
        torch.testing.assert_close(ours, logits, rtol=1e-5, atol=1e-5)
    assert told["greedy"] == generate(model, PROMPTS, max_new_tokens=64, stop=-1)


def test_conversations_are_equal(theirs: tuple[dict[str, Any], Path], checkpoints: dict[str, Path]) -> None:
    chat = Chat(checkpoints["llama"])
    for (tools, thinking), text, ids in zip(CASES, theirs[0]["rendered"], theirs[0]["ids"], strict=True):
        assert chat.render(CONVERSATION, tools, add_generation_prompt=True, enable_thinking=thinking) == text
        assert chat.prompt(CONVERSATION, tools, thinking) == ids
