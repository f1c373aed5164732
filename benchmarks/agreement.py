"""Whether a device computes what the definition says: the checks of `benchmarks.cuda`.

The definition is the plain model in fp32 on the CPU, or what torch's own functions make of its logits.
In bf16 every number is rounded. What that may cost is measured too: the plain model on the CPU computes in bf16 once,
and a device may be off by RATIO times as much, or by the least that is named here.
"""

import hashlib
import io
import math
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from minimind import files, optim
from minimind.batches import Batch, Batches, Source
from minimind.capability import native_bfloat16, native_dtype
from minimind.engines.engine import Objective
from minimind.engines.replicas import Forward, Replicas, bound
from minimind.generate import generate, loglikelihood
from minimind.losses import IGNORE, cross_entropy_sum, sequence_logprobs
from minimind.model import (
    Decoder,
    ModelConfig,
    document_ends,
    document_mask,
    document_positions,
    takes_lengths,
)
from minimind.objectives.distillation import Distillation
from minimind.objectives.language import Language
from minimind.objectives.preference import Preference
from minimind.rows import Rows, RowWriter

RATIO = 3.0
LOGITS, GRADIENTS, LOSS = "logits", "gradients", "loss"
LENGTHS, MASKED = "variable-length", "masked"
LEFT = "padding on the left"
LEAST = {  # relative errors that are always allowed
    torch.float32: {LOGITS: 1e-4, GRADIENTS: 1e-3, LOSS: 1e-4},
    torch.bfloat16: {LOGITS: 1e-2, GRADIENTS: 1e-2, LOSS: 2e-2},
}
NATS = {torch.float32: 1e-4, torch.bfloat16: 1e-2}  # for each token, likewise

CPU = torch.device("cpu")
STEPS, SAVED_AFTER = 6, 3
NO_STOP = -1
MANY = 300  # texts of 256 tokens: a piece for every token would be more pieces than the kernel's grid has

# Heads are as wide as in MiniMind 3, the rest is small, so that a CPU without bf16 computes the definition in time.
DENSE = ModelConfig(192, 2, 4, 2, 320, head_dim=96, max_position_embeddings=512, qk_norm_init=1.6, vocab_size=512)
TOY = ModelConfig(32, 2, 2, 1, 48, head_dim=16, max_position_embeddings=128, qk_norm_init=1.6, vocab_size=64)


class DisagreementError(Exception):
    """A check has failed; the message says what was found and what would have been right."""


class AbsentError(Exception):
    """The device has nothing to be checked; the message says why."""


class LeftOutError(Exception):
    """It could be checked, and was not; the message says why."""


Check = tuple[str, Callable[[], str]]
"""A name, and what makes the check: it returns what it found, or raises one of the above."""


@dataclass(frozen=True)
class Outcome:
    """What an objective came to."""

    loss: Tensor
    logits: list[Tensor]  # of real tokens, where the objective tells
    gradients: list[Tensor | None]  # of all parameters, in their order


@dataclass(frozen=True)
class Prediction:
    """Cross-entropy without a routers' loss, which tells its logits. With `masked`, attention is that of decoding."""

    masked: bool = False

    def weight(self, batch: Batch) -> int:
        """Number of target tokens."""
        return int((batch["targets"] != IGNORE).sum())

    def __call__(self, model: Decoder, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Summed loss, and the logits of every position as a metric."""
        ids, documents = batch["ids"], batch["documents"]
        if self.masked:
            allowed = document_mask(documents)[:, None]
            bias = torch.zeros_like(allowed, dtype=model.dtype).masked_fill(~allowed, -math.inf)
            hidden, _ = model(ids, positions=document_positions(documents), bias=bias)
        else:
            hidden, _ = model(ids, documents)
        return cross_entropy_sum(hidden, model.output_weight, batch["targets"]), {"logits": model.logits(hidden)}


def difference(found: Sequence[Tensor | None], expected: Sequence[Tensor | None]) -> float:
    """Root mean square, over the tensors, of ‖found - expected‖ / ‖expected‖; those that are 0 on both sides drop out.

    So a small tensor that is all wrong counts as much as a large one.
    """
    errors = []
    for ours, theirs in zip(found, expected, strict=True):
        a, b = (torch.zeros(()) if x is None else x.detach().double().cpu() for x in (ours, theirs))
        size = b.norm().item()
        error = (a - b).norm().item()
        if size or error != 0:
            errors.append(error / size if size else math.inf)
    return math.sqrt(sum(error**2 for error in errors) / max(1, len(errors)))


def digest(model: torch.nn.Module) -> str:
    """SHA-256 of all master weights, names included."""
    total = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        total.update(name.encode() + value.cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def word(dtype: torch.dtype) -> str:
    """Its name without the library's."""
    return str(dtype).removeprefix("torch.")


def moved(batch: Batch, device: torch.device) -> Batch:
    """The batch on the device."""
    return {name: value.to(device) for name, value in batch.items()}


@cache
def randomised(config: ModelConfig, dtype: torch.dtype, device: torch.device) -> Decoder:
    """A model whose every parameter, the norms' too, differs from its start, so that a mix-up shows."""
    model = Decoder(config, dtype).initialise(1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model.to(device)


class Bench:
    """The checks of one device, with what they share. `scratch` is an empty folder."""

    def __init__(self, device: torch.device, toy: bool, compiles: bool, scratch: Path):
        self.device, self.toy, self.compiles, self.scratch = device, toy, compiles, scratch
        self.dense = TOY if toy else DENSE
        self.kinds = {
            "dense": self.dense,
            "MoE": replace(self.dense, use_moe=True, num_experts=4, num_experts_per_tok=2, router_aux_loss_coef=0.01),
        }
        self.rows, self.length = (4, 24) if toy else (4, 128)
        self._definitions: dict[tuple[Any, ...], Outcome] = {}

    def checks(self) -> Iterator[Check]:
        """All that need no compiler."""
        yield "padding on the left is refused by attention by pieces", self.refuses
        for kind, dtype in product(self.kinds, LEAST):
            yield from self.attention_checks(kind, dtype, compiled=False)
        for kind, dtype in product(self.kinds, LEAST):
            what = f"{kind}, {word(dtype)}"
            yield f"log-likelihoods in a batch and alone: {what}", self.bind(self.likelihood, kind, dtype)
            yield f"greedy decoding with a cache and without: {what}", self.bind(self.greedy, kind, dtype)
            for name in self.objectives:
                yield f"{name}, loss and gradients: {what}", self.bind(self.objective, name, kind, dtype)
        yield from self.run_checks(compiled=False)

    def compiled_checks(self) -> Iterator[Check]:
        """Those of torch.compile."""
        for kind in self.kinds:
            yield from self.attention_checks(kind, torch.bfloat16, compiled=True)
        yield from self.run_checks(compiled=True)
        for kind in self.kinds:
            yield from self.attention_checks(kind, torch.float32, compiled=True)

    def attention_checks(self, kind: str, dtype: torch.dtype, compiled: bool) -> Iterator[Check]:
        """Both forms of attention."""
        for form in (LENGTHS, MASKED):
            what = f"{kind}, {word(dtype)}, {form}{', compiled' if compiled else ''}"
            check = self.bind(self.attention, kind, dtype, form, compiled, compiled=compiled)
            yield f"attention, logits and gradients: {what}", check

    def run_checks(self, compiled: bool) -> Iterator[Check]:
        """Of whole runs."""
        for kind in self.kinds:
            what = f"{kind}{', compiled' if compiled else ''}"
            again = self.bind(self.determinism, kind, compiled, compiled=compiled)
            taken_up = self.bind(self.resume, kind, compiled, compiled=compiled)
            yield f"two runs end in the same bits: {what}", again
            yield f"a run that is taken up ends in the same bits: {what}", taken_up

    def bind(self, check: Callable[..., str], *arguments: Any, compiled: bool = False) -> Callable[[], str]:
        """The check of these arguments, behind the question whether the device has what it takes."""

        def made() -> str:
            self.require(arguments, compiled)
            if compiled:
                torch.compiler.reset()  # of one function torch keeps eight forms, and then refuses
            return check(*arguments)

        return made

    def require(self, arguments: tuple[Any, ...], compiled: bool) -> None:
        """Raises AbsentError where the device lacks a format or form of attention, LeftOutError where none compiles."""
        if torch.bfloat16 in arguments and self.device.type != "cpu" and not native_bfloat16(self.device):
            raise AbsentError("it doesn't multiply bfloat16")
        by_lengths = any(self.by_lengths(value) for value in arguments if isinstance(value, torch.dtype))
        if LENGTHS in arguments and not by_lengths:
            raise AbsentError("variable-length attention is for bfloat16 on CUDA")
        if MASKED in arguments and by_lengths and compiled:
            raise AbsentError("in bfloat16 only decoding is masked here, which is never compiled")
        if compiled and self.device.type == "mps":
            raise AbsentError("training is not compiled on mps")
        if compiled and not self.compiles:
            raise LeftOutError("--compile on asks for it")

    def by_lengths(self, dtype: torch.dtype) -> bool:
        """Whether packed rows of this format go through variable-length attention here."""
        return takes_lengths(torch.empty(0, dtype=dtype, device=self.device))

    # What is computed on: documents of every layout, and the definition's answer.

    @cached_property
    def layouts(self) -> dict[str, Tensor]:
        """Document numbers (B, T) by name."""
        B, T = self.rows, self.length
        lengths = torch.tensor([T, T * 2 // 3, T // 3, 5])[:, None]
        right = (torch.arange(T) < lengths).long()
        generator = torch.Generator().manual_seed(3)
        starts = torch.rand(B, T, generator=generator) < 6 / T
        starts[:, 0] = True
        several = starts.cumsum(1) * (torch.arange(T) < T - torch.arange(B)[:, None] * 3)
        return {
            "one document": torch.ones(B, T, dtype=torch.int64), "padding on the right": right,
            "several documents": several, LEFT: right.flip(1),
        }  # fmt: skip

    def batch(self, documents: Tensor) -> Batch:
        """Random tokens in these documents, each to be predicted from the one before it."""
        generator = torch.Generator().manual_seed(4)
        ids = torch.randint(0, self.dense.vocab_size, documents.shape, generator=generator)
        targets = torch.full_like(ids, IGNORE)
        follows = (documents[:, 1:] == documents[:, :-1]) & (documents[:, 1:] > 0)
        targets[:, :-1] = torch.where(follows, ids[:, 1:], IGNORE)
        return {"ids": ids, "targets": targets, "documents": documents}

    def outcome(self, model: Decoder, forward: Forward, batch: Batch, weight: int) -> Outcome:
        """What `forward` makes of the batch, with the gradients of the mean loss."""
        model.zero_grad(set_to_none=True)
        loss, metrics = forward(moved(batch, model.cos.device))
        (loss / weight).backward()
        real = batch["documents"] > 0
        logits = [metrics["logits"].detach().cpu()[real]] if "logits" in metrics else []
        gradients = [None if p.grad is None else p.grad.detach().cpu().clone() for p in model.parameters()]
        return Outcome(loss.detach().cpu(), logits, gradients)

    def defined(self, name: str, objective: Objective, kind: str, dtype: torch.dtype, batch: Batch) -> Outcome:
        """The same by the plain model on the CPU, once for each name, kind and format."""
        key = (name, kind, dtype)
        if key not in self._definitions:
            model = randomised(self.kinds[kind], dtype, CPU)
            forward = bound(model, objective, False)
            self._definitions[key] = self.outcome(model, forward, batch, max(1, objective.weight(batch)))
        return self._definitions[key]

    def compare(
        self, found: Outcome, name: str, objective: Objective, kind: str, dtype: torch.dtype, batch: Batch
    ) -> str:
        """Says how far `found` is from the definition. Raises DisagreementError beyond what rounding explains."""
        expected = self.defined(name, objective, kind, torch.float32, batch)
        errors = {
            LOGITS: difference(found.logits, expected.logits),
            GRADIENTS: difference(found.gradients, expected.gradients),
            LOSS: difference([found.loss], [expected.loss]),
        }
        limits = dict(LEAST[dtype])
        if dtype != torch.float32:
            rounded = self.defined(name, objective, kind, dtype, batch)
            limits[LOGITS] = max(limits[LOGITS], RATIO * difference(rounded.logits, expected.logits))
            limits[GRADIENTS] = max(limits[GRADIENTS], RATIO * difference(rounded.gradients, expected.gradients))
        if not expected.logits:
            del errors[LOGITS]
        told = ", ".join(f"{what} {error:.1e} of {limits[what]:.1e}" for what, error in errors.items())
        if not all(error <= limits[what] for what, error in errors.items()):
            raise DisagreementError(f"{name}: {told}")
        return told

    # The checks.

    def refuses(self) -> str:
        """Document numbers out of order raise on the CPU and end the process on CUDA, instead of being computed."""
        left = self.layouts[LEFT]
        try:
            document_ends(left, 1)
        except RuntimeError as error:
            told = str(error).splitlines()[0]
        else:
            raise DisagreementError("document_ends took padding on the left without a word")
        if self.device.type == "cuda":
            program = (
                "import torch; from minimind.model import document_ends; "
                "document_ends(torch.tensor([[0, 1]], device='cuda'), 1); torch.cuda.synchronize()"
            )
            root = str(Path(__file__).parents[1])
            done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False, cwd=root)
            if done.returncode == 0:
                raise DisagreementError("a process of its own took padding on the left on CUDA without a word")
        return told

    def attention(self, kind: str, dtype: torch.dtype, form: str, compiled: bool) -> str:
        """Logits and gradients of one form of attention, over every layout that it takes."""
        model = randomised(self.kinds[kind], dtype, self.device)
        objective = Prediction(masked=form == MASKED and self.by_lengths(dtype))
        forward = bound(model, objective, compiled)
        told = []
        # One number for all layouts, so that they share what is compiled.
        model.max_documents = int(max(documents.max() for documents in self.layouts.values()))
        try:
            for name, documents in self.layouts.items():
                if form == MASKED or name != LEFT:
                    batch = self.batch(documents)
                    found = self.outcome(model, forward, batch, objective.weight(batch))
                    told.append(self.compare(found, name, Prediction(), kind, dtype, batch))
        finally:
            model.max_documents = None
        return f"{len(told)} layouts, the last: {told[-1]}"

    def texts(self) -> tuple[list[list[int]], list[list[int]]]:
        """Contexts of unlike lengths, and continuations."""
        generator = torch.Generator().manual_seed(5)

        def draw(most: int) -> list[int]:
            length = int(torch.randint(1, most + 1, (), generator=generator))
            return torch.randint(0, self.dense.vocab_size, (length,), generator=generator).tolist()

        number = 6 if self.toy else 24
        return [draw(self.length - 8) for _ in range(number)], [draw(8) for _ in range(number)]

    def likelihood(self, kind: str, dtype: torch.dtype) -> str:
        """In a batch as alone, and alone as read off the logits of the plain model on the CPU."""
        contexts, continuations = self.texts()
        counts = torch.tensor([float(len(c)) for c in continuations])

        def defined(dtype: torch.dtype) -> Tensor:
            model = randomised(self.kinds[kind], dtype, CPU)
            totals = []
            for context, continuation in zip(contexts, continuations, strict=True):
                ids = torch.tensor([context + continuation])
                with torch.no_grad():
                    logprobs = model.logits(model(ids, torch.ones_like(ids))[0])[0, :-1].log_softmax(-1)
                totals.append(logprobs.gather(1, ids[0, 1:, None])[len(context) - 1 :].sum())
            return torch.stack(totals) / counts

        expected = defined(torch.float32)
        limit = NATS[dtype]
        if dtype != torch.float32:
            limit = max(limit, RATIO * (defined(dtype) - expected).abs().max().item())
        model = randomised(self.kinds[kind], dtype, self.device)

        def score(contexts: list[list[int]], continuations: list[list[int]]) -> Tensor:
            return torch.tensor([total / count for total, count in loglikelihood(model, contexts, continuations)])

        together = score(contexts, continuations)
        alone = torch.cat([score([a], [b]) for a, b in zip(contexts, continuations, strict=True)])
        errors = {
            "alone and in a batch": (together - alone).abs().max().item(),
            "alone and as defined": (alone - expected).abs().max().item(),
        }
        if not self.toy:
            many = [[token % self.dense.vocab_size for token in range(i, i + 255)] for i in range(MANY)]
            last = score(many, [[7]] * MANY)
            few = score(many[:3], [[7]] * 3)
            errors[f"of {MANY} texts and of 3"] = (last[:3] - few).abs().max().item()
        told = ", ".join(f"{what}: {error:.1e}" for what, error in errors.items()) + f" nats a token, of {limit:.1e}"
        if not all(error <= limit for error in errors.values()):
            raise DisagreementError(told)
        return told

    def greedy(self, kind: str, dtype: torch.dtype) -> str:
        """Every token is the most probable one after a pass over all before it, without cache and company.

        In bf16 two tokens may be equal but for rounding: the chosen one may lie below the best by what rounding does.
        """
        prompts = self.texts()[0][:6]
        prompts = [prompt[: self.length // 4] for prompt in prompts]
        model = randomised(self.kinds[kind], dtype, self.device)
        exact = randomised(self.kinds[kind], torch.float32, self.device)
        outputs = generate(model, prompts, max_new_tokens=4 if self.toy else 16, stop=NO_STOP)
        behind, limit, other = 0.0, 1e-4, 0
        for prompt, output in zip(prompts, outputs, strict=True):
            ids = torch.tensor([prompt + output], device=self.device)
            with torch.no_grad():
                logits, precise = (m.logits(m(ids, torch.ones_like(ids))[0])[0] for m in (model, exact))
            here = logits[len(prompt) - 1 : -1].cpu()
            if dtype != torch.float32:
                limit = max(limit, 2 * (here - precise[len(prompt) - 1 : -1].cpu()).abs().max().item())
            chosen = here.gather(1, torch.tensor(output)[:, None])[:, 0]
            behind = max(behind, (here.amax(1) - chosen).max().item())
            other += int((here.argmax(1) != torch.tensor(output)).sum())
        told = (
            f"{other} of {sum(map(len, outputs))} tokens are others, at most {behind:.1e} of {limit:.1e} below the best"
        )
        if not behind <= limit:
            raise DisagreementError(told)
        return told

    @cached_property
    def objectives(self) -> dict[str, Objective]:
        """Those that train, by name."""
        return {
            "cross-entropy": Language(),
            "DPO": Preference(beta=0.1, nll=0.2),
            "distillation": Distillation(alpha=0.5, temperature=2.0),
        }

    def objective(self, name: str, kind: str, dtype: torch.dtype) -> str:
        """Loss and gradients of an objective, the routers' loss included."""
        objective, batch = self.objectives[name], self.objective_batch(name)
        model = randomised(self.kinds[kind], dtype, self.device)
        found = self.outcome(model, bound(model, objective, False), batch, objective.weight(batch))
        return self.compare(found, name, objective, kind, dtype, batch)

    def objective_batch(self, name: str) -> Batch:
        """What an objective learns from."""
        if name == "cross-entropy":
            return self.batch(self.layouts["several documents"])
        if name == "distillation":
            batch = self.batch(self.layouts["several documents"])
            shape = (*batch["ids"].shape, self.dense.vocab_size)
            logprobs = torch.randn(shape, generator=torch.Generator().manual_seed(6)).mul(2).log_softmax(-1)
            kept, ids = logprobs.topk(4, -1)
            others = logprobs.scatter(-1, ids, -torch.inf).logsumexp(-1, keepdim=True)
            return batch | {"teacher_ids": ids, "teacher_logprobs": torch.cat((kept, others), -1)}
        part = self.length // 5
        numbers = torch.arange(self.length) // part + 1
        documents = numbers.where(numbers <= 4, 0).repeat(self.rows, 1)
        documents[-1, 2 * part :] = 0  # a row with a pair less
        batch = self.batch(documents)
        model = randomised(self.dense, torch.float32, CPU)
        with torch.no_grad():
            logits = model.logits(model(batch["ids"], documents)[0])
        reference = sequence_logprobs(logits, batch["targets"], documents, 4)
        return batch | {
            "reference": reference + torch.randn(reference.shape, generator=torch.Generator().manual_seed(7))
        }

    @cached_property
    def data(self) -> Batches:
        """Packed rows, from a file."""
        generator = np.random.default_rng(0)
        with RowWriter(self.scratch / "train.arrow", self.length, self.dense.vocab_size) as writer:
            for _ in range(32):
                lengths = generator.integers(3, self.length // 3, size=3)
                drawn = (generator.integers(0, self.dense.vocab_size // 4, size=length) for length in lengths)
                writer.add([(ids, [0] + [1] * (len(ids) - 1), 1) for ids in drawn])
        files.write_manifest(self.scratch)
        return Batches([Source(Rows.open(self.scratch, "train"))], 8, 1)

    def trained(self, kind: str, compiled: bool, first: int, last: int, state: bytes | None = None) -> Replicas:
        """A fresh model after the steps from `first` up to `last`, or the state of another one after them."""
        model = Decoder(self.kinds[kind], native_dtype(self.device)).initialise(1).to(self.device)
        model.max_documents = self.data.sources[0].rows.max_documents
        objective = Language()
        optimizers = optim.build(model, "muon", 1e-3, 1e-2, (0.9, 0.95), 0.95, 0.0)
        engine = Replicas(model, bound(model, objective, compiled), optimizers)
        if state is not None:
            engine.load(torch.load(io.BytesIO(state), map_location=self.device, weights_only=True))
        for step in range(first, last):
            batch = self.data.at(step)
            for part in (slice(0, 4), slice(4, 8)):
                loss, _ = engine.forward(moved({name: value[part] for name, value in batch.items()}, self.device))
                engine.backward(loss / objective.weight(batch))
            engine.step(1 - step / STEPS, 1.0, None)
        return engine

    def determinism(self, kind: str, compiled: bool) -> str:
        """Two runs with runtime.deterministic, two micro-batches a step."""
        first, again = (digest(self.trained(kind, compiled, 0, STEPS).model) for _ in range(2))
        if first != again:
            raise DisagreementError(f"{STEPS} steps from the same start end in {first[:16]} and in {again[:16]}")
        return f"{first[:16]} after {STEPS} steps"

    def resume(self, kind: str, compiled: bool) -> str:
        """A state is saved after some steps, and loaded into a fresh model with fresh optimizers."""
        whole = self.trained(kind, compiled, 0, STEPS)
        state = io.BytesIO()
        torch.save(self.trained(kind, compiled, 0, SAVED_AFTER).state(), state)
        second = self.trained(kind, compiled, SAVED_AFTER, STEPS, state.getvalue())
        first, again = digest(whole.model), digest(second.model)
        if first != again:
            raise DisagreementError(f"undisturbed {first[:16]}, taken up after {SAVED_AFTER} steps {again[:16]}")
        return f"{first[:16]}, taken up after {SAVED_AFTER} of {STEPS} steps"
