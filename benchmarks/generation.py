"""Speed of greedy decoding with random weights: ours, transformers, and llama.cpp, prefill included.

    python benchmarks/generation.py [--sizes 26M,104M] [--batches 1,8,32] [--clock cpu]

All run in this process, on the CPU, on the same number of threads, on the same prompts, taking turns. Tokens per second
are new tokens by the median seconds over the rounds; the other columns say how many times as fast ours is in each
precision, as the median over the rounds of the ratio within a round, which a busy machine disturbs less. With
`--clock cpu` seconds are those that the process spent on processors: with one thread, what a quiet machine would take.
"""

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
import xllamacpp
from transformers.utils import logging

from minimind import checkpoint, config, hardware, tokenizer
from minimind.config import PRESETS, Runtime
from minimind.export import contents, gguf
from minimind.inference.engine import Engine, Row
from minimind.inference.network import Source
from minimind.inference.sampling import Sampling
from minimind.inference.text import Writer
from minimind.model import Decoder, ModelConfig
from minimind.tokenizer import SPECIAL_TOKENS, TokenizerConfig

VOCABULARY = 6400
SIZES = {"26M": "minimind2-small", "104M": "minimind2"}  # presets
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
NO_STOP = -1

Prompts = Sequence[list[int]]
Contestant = Callable[[Prompts], object]
Times = dict[str, list[float]]


def ours(model: Decoder, quantize: bool, new_tokens: int) -> Contestant:
    """The engine behind `minimind.Model`, texts included."""
    engine = Engine(Source(model, quantize), NO_STOP)
    written = [f"[{number}]".encode() for number in range(VOCABULARY)]

    def run(prompts: Prompts) -> None:
        rows = [Row(prompt, Sampling(), new_tokens, Writer(written), number=i) for i, prompt in enumerate(prompts)]
        for _ in engine.run(rows, len(rows)):
            pass

    return run


def theirs(folder: Path, dtype: torch.dtype, new_tokens: int) -> Contestant:
    """`generate` of transformers on the same checkpoint."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()

    def run(prompts: Prompts) -> None:
        ids = torch.tensor(prompts)
        with torch.inference_mode():
            output = model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=new_tokens, do_sample=False,
                eos_token_id=None, pad_token_id=0,
            )  # fmt: skip
        assert output.shape[1] == ids.shape[1] + new_tokens

    return run


def llama(path: Path, batch: int, prompt_tokens: int, new_tokens: int) -> Contestant:
    """llama.cpp's server, called in this process, with a slot for each prompt."""
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(path)
    parameters.n_parallel = batch
    parameters.n_ctx = batch * (prompt_tokens + new_tokens + 64)
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = torch.get_num_threads()
    parameters.cache_ram_mib = 0
    parameters.warmup = False
    parameters.verbosity = -1
    server = xllamacpp.Server(parameters)
    greedy = {"temperature": 0, "top_k": 1, "samplers": ["top_k"], "ignore_eos": True, "cache_prompt": False}

    def run(prompts: Prompts) -> None:
        answers: list[dict[str, Any]] = [{} for _ in prompts]

        def ask(i: int) -> None:
            answers[i] = server.handle_completions({"prompt": prompts[i], "n_predict": new_tokens} | greedy)

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(prompts))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for answer in answers:
            assert answer["timings"]["predicted_n"] == new_tokens, f"llama.cpp answered {answer}"

    return run


def write(folder: Path, preset: str) -> Path:
    """A checkpoint of random weights, with the smallest tokenizer that llama.cpp takes: of one merge."""
    path = PRESETS / f"{preset}.yaml"
    shape = config.parse(ModelConfig, config.read(path), path).with_vocabulary(VOCABULARY)
    words = folder / "tokenizer"
    words.mkdir()
    smallest = TokenizerConfig(len(SPECIAL_TOKENS) + 257, isolate=False, max_bytes=1, held_out_share=0.5)
    tokenizer.save(tokenizer.train(["ab ab ab"], smallest), words)
    checkpoint.save(folder / "model", Decoder(shape).initialise(0), words, {})
    return folder / "model"


def race(contestants: dict[str, Contestant], prompts: Prompts, rounds: int, clock: Callable[[], float]) -> Times:
    """Seconds of every contestant in every round, after one that does not count."""
    seconds: Times = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name, run in contestants.items():
            start = clock()
            run(prompts)
            if number:
                seconds[name].append(clock() - start)
    return seconds


def table(batch: int, seconds: Times, num_tokens: int) -> list[str]:
    """Lines of Markdown: tokens per second of each, and ours as a multiple."""
    lines = []
    for name, times in seconds.items():
        ratios = []
        for own in (seconds[other] for other in seconds if other.startswith("ours")):
            ratios.append(f"{statistics.median(b / a for a, b in zip(own, times, strict=True)):.2f}")
        speed = num_tokens / statistics.median(times)
        lines.append(f"| {batch} | {name} | {speed:,.0f} | {' | '.join(ratios)} |")
    return lines


def main(arguments: list[str] | None = None) -> None:
    """Run the races that the command line asks for, and print a table for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default=",".join(SIZES))
    parser.add_argument("--batches", default="1,8,32")
    parser.add_argument("--prompt-tokens", type=int, default=64)
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=0, help="0: every core")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    options = parser.parse_args(arguments)
    hardware.setup(
        Runtime(
            device="cpu", dtype="float32", threads=options.threads, micro_batch_size=0, compile="off", workers=0,
        )
    )  # fmt: skip
    logging.disable_progress_bar()
    clock = {"wall": time.perf_counter, "cpu": time.process_time}[options.clock]
    generator = torch.Generator().manual_seed(0)
    print(
        f"{torch.get_num_threads()} threads, {options.prompt_tokens} + {options.new_tokens} tokens, {options.clock} "
        f"clock, torch {torch.__version__}, transformers {transformers.__version__}, xllamacpp {xllamacpp.__version__}"
    )
    for size in options.sizes.split(","):
        with tempfile.TemporaryDirectory() as folder:
            checkpoint_folder = write(Path(folder), SIZES[size])
            fixed: dict[str, Contestant] = {}
            for precision, dtype in PRECISIONS.items():
                fixed[f"ours {precision}"] = ours(checkpoint.load(checkpoint_folder, dtype), False, options.new_tokens)
                fixed[f"transformers {precision}"] = theirs(checkpoint_folder, dtype, options.new_tokens)
            fixed["ours q8_0"] = ours(checkpoint.load(checkpoint_folder), True, options.new_tokens)
            files = {kind: Path(folder) / f"{kind}.gguf" for kind in ("f32", "bf16", "q8_0")}  # by llama.cpp's names
            for kind, path in files.items():
                gguf.write(contents.read(checkpoint_folder), path, kind)
            print(f"\n{size}:\n\n| batch | | tokens/s | ours fp32 | ours bf16 | ours q8_0 |\n|--:|:--|--:|--:|--:|--:|")
            for batch in map(int, options.batches.split(",")):
                prompts = torch.randint(36, VOCABULARY, (batch, options.prompt_tokens), generator=generator).tolist()
                servers = {
                    f"llama.cpp {kind}": llama(path, batch, options.prompt_tokens, options.new_tokens)
                    for kind, path in files.items()
                }
                seconds = race(fixed | servers, prompts, options.rounds, clock)
                print("\n".join(table(batch, seconds, batch * options.new_tokens)), flush=True)


if __name__ == "__main__":
    main()
