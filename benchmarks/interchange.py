"""One checkpoint side by side: ours, transformers, and llama.cpp on files of fp32, fp16 and Q8_0.

    python benchmarks/interchange.py models/dpo

Greedy answers to three prompts, the largest difference between any two logits (after subtracting their mean, as
llama.cpp gives log-probabilities), perplexity and file size. Everything computes in fp32 on the CPU; llama.cpp's
keys and values are fp32 too, and its fused attention, which rounds to fp16, is off.
"""

import argparse
import json
import os
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
import transformers
import xllamacpp
from torch import Tensor

from minimind import checkpoint, generate
from minimind.chat import Chat
from minimind.errors import UserError
from minimind.export import contents as reading
from minimind.export import gguf
from minimind.export.perplexity import documents, perplexity
from minimind.tokenizer import EOS

PROMPTS = ("法国的首都是哪里？", "What is 47+38?", "Tell me a story.")
QUANTIZED = ("f32", "f16", "q8_0")
NEW_TOKENS = 64
SECONDS = 120  # to wait for an answer


class Llama:
    """llama.cpp's server on one GGUF file, in this process, on one thread. Use it as a context manager."""

    def __init__(self, path: Path, positions: int):
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(path)
        parameters.n_ctx = positions
        parameters.n_parallel = 1
        parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
        parameters.cache_type_k = parameters.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        parameters.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        parameters.use_jinja = True
        parameters.warmup = False
        parameters.verbosity = -1
        self.server = xllamacpp.Server(parameters)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del self.server  # its destructor ends the threads

    def ask(self, path: str, body: dict[str, Any]) -> Any:
        """The JSON answer of the server's `path`. Raises urllib.error.HTTPError with what the server says."""
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.server.listening_address + path, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return json.loads(answer.read())

    def tokenize(self, text: str, markers: bool = False) -> list[int]:
        """Token ids of a text; with `markers`, those within it count as such."""
        body = {"content": text, "add_special": False, "parse_special": markers}
        return list(self.ask("/tokenize", body)["tokens"])

    def render(self, messages: list[dict[str, Any]], **options: Any) -> str:
        """The prompt that the file's chat template makes of a conversation."""
        return str(self.ask("/apply-template", {"messages": messages, **options})["prompt"])

    def greedy(self, prompt: Sequence[int], tokens: int, stop: int | None = None) -> list[int]:
        """The most probable continuation of `prompt`, up to `stop`, the file's end of a turn, and without it."""
        body = {"prompt": list(prompt), "n_predict": tokens, "return_tokens": True, "samplers": ["top_k"], "top_k": 1}
        found = list(self.ask("/completion", body | {"ignore_eos": stop is None})["tokens"])
        return found[: found.index(stop)] if stop in found else found

    def logprobs(self, prompt: Sequence[int], vocab_size: int, printable: int) -> Tensor:
        """log p(next token | prompt), (V,) fp32. The server wants to write a token: `printable` is one it can."""
        body = {"prompt": list(prompt), "n_predict": 1, "n_probs": vocab_size, "cache_prompt": True}
        answer = self.ask("/completion", body | {"logit_bias": [[printable, 1e9]], "samplers": ["top_k"], "top_k": 1})
        scores = torch.full((vocab_size,), -torch.inf)
        for entry in answer["completion_probabilities"][0]["top_logprobs"]:
            scores[entry["id"]] = entry["logprob"]
        return scores


def compare(folder: Path, text: Path, max_tokens: int, out: Callable[[str], object] = print) -> None:
    """Print the comparison for the checkpoint in `folder`. Raises UserError."""
    contents = reading.read(folder)
    ours, chat = checkpoint.load(folder), Chat(folder)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    vocab_size, stop = contents.config["vocab_size"], EOS
    prompts = [chat.prompt([{"role": "user", "content": prompt}]) for prompt in PROMPTS]
    pieces = documents(text, contents, max_tokens)
    expected = [_logprobs(ours, prompt) for prompt in prompts]
    pad = contents.token("pad")

    def answers_of_transformers(prompt: list[int]) -> list[int]:
        ids = torch.tensor([prompt])
        made = theirs.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW_TOKENS, do_sample=False, pad_token_id=pad
        )[0, len(prompt) :].tolist()
        return made[: made.index(stop)] if stop in made else made

    with torch.no_grad():
        their_logprobs = [theirs(torch.tensor([prompt])).logits[0].log_softmax(-1) for prompt in prompts]
    table = [
        (
            "ours",
            [generate.generate(ours, [p], max_new_tokens=NEW_TOKENS, stop=stop)[0] for p in prompts],
            0.0,
            perplexity(ours, pieces),
            (folder / checkpoint.WEIGHTS).stat().st_size,
        ),
        (
            "transformers",
            [answers_of_transformers(prompt) for prompt in prompts],
            max(float((a - b).abs().max()) for a, b in zip(expected, their_logprobs, strict=True)),
            _perplexity_of(lambda piece: theirs(torch.tensor([piece])).logits[0].log_softmax(-1), pieces),
            (folder / checkpoint.WEIGHTS).stat().st_size,
        ),
    ]
    printable = chat.text_tokenizer.token_to_id("a")
    assert printable is not None, "every single byte is a token"
    with tempfile.TemporaryDirectory() as temporary:
        for kind in QUANTIZED:
            path = Path(temporary) / f"{kind}.gguf"
            gguf.write(contents, path, kind)
            with Llama(path, contents.config["max_position_embeddings"]) as llama:

                def rows(piece: list[int], llama: Llama = llama) -> Tensor:
                    ends = range(1, len(piece) + 1)
                    return torch.stack([llama.logprobs(piece[:end], vocab_size, printable) for end in ends])

                table.append(
                    (
                        f"llama.cpp {kind}",
                        [llama.greedy(prompt, NEW_TOKENS, stop) for prompt in prompts],
                        max(float((a - rows(p)).abs().max()) for a, p in zip(expected, prompts, strict=True)),
                        _perplexity_of(rows, pieces),
                        path.stat().st_size,
                    )
                )
    out("| | largest difference of logits | perplexity | bytes | equal answers |")
    out("|---|--:|--:|--:|--:|")
    for name, answers, difference, value, size in table:
        equal = sum(mine == first for mine, first in zip(answers, table[0][1], strict=True))
        out(f"| {name} | {difference:.2g} | {value:.5f} | {size:,} | {equal} of {len(PROMPTS)} |")
    for number, prompt in enumerate(PROMPTS):
        out(f"\n{prompt}")
        for name, answers, *_ in table:
            out(f"  {name:<15} {chat.tokenizer.decode(answers[number], skip_special_tokens=False)!r}")


@torch.inference_mode()
def _logprobs(model: Any, prompt: list[int]) -> Tensor:
    ids = torch.tensor([prompt])
    return model.logits(model(ids, torch.ones_like(ids))[0])[0].log_softmax(-1)


@torch.inference_mode()
def _perplexity_of(logprobs: Callable[[list[int]], Tensor], pieces: list[list[int]]) -> float:
    """As export.perplexity, from a function that gives (T, V) for a piece of T tokens."""
    scores = [logprobs(piece[:-1]).double().gather(1, torch.tensor(piece[1:])[:, None]) for piece in pieces]
    return float((-torch.cat(scores).mean()).exp())


def main(arguments: list[str] | None = None) -> int:
    """The command line. Returns the exit status."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="CHECKPOINT")
    parser.add_argument(
        "--text", type=Path, default=Path("data/packed/pretrain"),
        help="a packed data set, whose validation split is taken, or a file of text",
    )  # fmt: skip
    parser.add_argument("--tokens", type=int, default=2000, help="of it, at most")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    try:
        compare(options.folder, options.text, options.tokens)
    except (UserError, OSError) as error:
        print(f"interchange: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    sys.exit(main())
