"""What a mixture of experts costs in training beside its dense sibling, whose tokens meet as many parameters.

    python -m benchmarks.moe [--preset minimind-3-moe] [--dense minimind-3]

Three models take turns on the same rows: the dense one, the mixture, and the mixture with its experts in a loop
(the form that most code for small models has). Reported are the medians of forward and backward pass, of the
optimizer, and of a whole step of so many tokens, with their ratios to the dense model's.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from minimind import config, hardware, optim
from minimind.batches import Batch
from minimind.config import PRESETS, Runtime
from minimind.engines.replicas import forward_function
from minimind.model import Decoder, MixtureOfExperts, ModelConfig
from minimind.objectives.language import Language

VOCABULARY = 6400  # tokens, as MiniMind's


class LoopedMixture(MixtureOfExperts):
    """The peer: expert by expert, each waiting for the device to say how many tokens are its own."""

    def visit(self, x: Tensor, chosen: Tensor) -> Tensor:
        made = torch.zeros(*chosen.shape, x.shape[1], dtype=x.dtype, device=x.device)
        for number, expert in enumerate(self.experts):
            place = torch.where(chosen == number)
            made = made.index_put(place, expert(x[place[0]]))
        return made


def build(preset: str, layers: int, looped: bool, dtype: torch.dtype, device: torch.device) -> Decoder:
    """A fresh model of a preset, of `layers` layers (0: its own number); `looped` with the peer's experts."""
    path = PRESETS / f"{preset}.yaml"
    shape = config.parse(ModelConfig, config.read(path), path).with_vocabulary(VOCABULARY)
    model = Decoder(replace(shape, num_hidden_layers=layers or shape.num_hidden_layers), dtype)
    if looped:
        for layer in model.model.layers:
            layer.mlp = LoopedMixture(model.config)
    model.max_documents = 1
    return model.initialise(1).to(device)


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds that `work` takes."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


@dataclass
class Contestant:
    """A model with its optimizers and the times it took."""

    model: Decoder
    step: Callable[[Batch], object]
    optimizers: list[torch.optim.Optimizer]
    passes: list[float]
    updates: list[float]

    def update(self) -> None:
        """The optimizers' part of a step."""
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)


def contestant(model: Decoder, runtime: Runtime, optimizer: optim.OptimizerName) -> Contestant:
    """A model made ready to be timed."""
    forward = forward_function(model, Language(), runtime, 1)

    def step(batch: Batch) -> None:
        loss, _ = forward(batch)
        (loss / batch["ids"].numel()).backward()

    return Contestant(model, step, optim.build(model, optimizer, 1e-4, 1e-3, (0.9, 0.95), 0.95, 0.0), [], [])


def main(arguments: list[str] | None = None) -> None:
    """Measure and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="minimind-3-moe")
    parser.add_argument("--dense", default="minimind-3")
    parser.add_argument("--layers", type=int, default=0, help="of each model; 0: as many as the preset has")
    parser.add_argument("--rows", type=int, default=8, help="in one forward pass")
    parser.add_argument("--row-length", type=int, default=512, help="tokens")
    parser.add_argument("--step-tokens", type=int, default=32768, help="of one optimizer step, as profiles/ have it")
    parser.add_argument("--optimizer", choices=["adamw", "muon"], default="adamw")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--compile", choices=["on", "off"], default="off")
    parser.add_argument("--peer", action=argparse.BooleanOptionalAction, default=True, help="time the loop too")
    options = parser.parse_args(arguments)
    if not PRESETS.is_dir():
        parser.error("run from the root of the repository")
    runtime = Runtime(threads=options.threads, compile=options.compile)
    device, dtype = hardware.setup(runtime)

    forms = {"dense": (options.dense, False), "mixture": (options.preset, False)}
    if options.peer:
        forms["mixture, looped"] = (options.preset, True)
    contestants = {}
    for name, (preset, looped) in forms.items():
        model = build(preset, options.layers, looped, dtype, device)
        # What waits for the device within a pass can't be compiled as a whole.
        fitting = replace(runtime, compile="off") if looped else runtime
        contestants[name] = contestant(model, fitting, options.optimizer)

    generator = torch.Generator().manual_seed(1)
    shape = (options.rows, options.row_length)
    for number in range(options.rounds + 1):  # the first is warming up
        ids = torch.randint(VOCABULARY, shape, generator=generator).to(device)
        batch = {"ids": ids, "targets": ids.roll(-1, 1), "documents": torch.ones_like(ids)}
        for one in contestants.values():
            passed, updated = timed(partial(one.step, batch), device), timed(one.update, device)
            if number:
                one.passes.append(passed)
                one.updates.append(updated)

    num_passes = options.step_tokens / (options.rows * options.row_length)
    size = f"passes of {options.rows} × {options.row_length} tokens, steps of {options.step_tokens}"
    print(f"{device}, {dtype}, {torch.get_num_threads()} threads, {options.rounds} rounds, medians")
    print(f"{size} with {options.optimizer}\n")
    print("| model | parameters | active | pass, s | ratio | optimizer, s | step, s | ratio |")
    print("| :-- | --: | --: | --: | --: | --: | --: | --: |")
    base: list[float] = []
    for name, one in contestants.items():
        passed, updated = statistics.median(one.passes), statistics.median(one.updates)
        values = [passed, num_passes * passed + updated]
        base = base or values
        ratios = [value / reference for value, reference in zip(values, base, strict=True)]
        model = one.model
        print(f"| {name} | {model.num_parameters():,} | {model.num_parameters(active=True):,} | {values[0]:.3f} | "
              f"{ratios[0]:.2f} | {updated:.3f} | {values[1]:.2f} | {ratios[1]:.2f} |")  # fmt: skip


if __name__ == "__main__":
    main()
