"""Running a benchmark on a model: items → answers → the share of each family, with its interval.

What items are is in `benchmark`. An answer that reaches the limit of tokens has no end and is wrong. Further families
are read off the others' items:

- overrefuse: the greedy answer to an item with "refusals" (phrases) begins with one of them, though it has an answer
- whatever "sampled" ({"family", "verify"}) of an item says: an answer drawn at temperature 1 meets the specification
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from minimind import files, verify
from minimind.benchmark import BenchmarkError, Item
from minimind.chat import Chat, ConversationError
from minimind.families import in_order
from minimind.generate import generate, loglikelihood
from minimind.limits import Limits
from minimind.model import Decoder
from minimind.rows import MAX_ROW_LENGTH
from minimind.statistics import wilson
from minimind.tokenizer import BOS, EOS


@dataclass(frozen=True)
class EvaluateConfig:
    """Section `evaluate` of params.yaml."""

    split: str  # of the benchmark: dev to choose a recipe by, test to report
    max_new_tokens: Annotated[int, Limits(1, MAX_ROW_LENGTH)]  # in an answer; one that needs more is wrong


@dataclass(frozen=True)
class Result:
    """What became of one item in one family."""

    id: str
    family: str
    correct: bool  # whether it counts in the family's score, which for overrefuse means refused
    output: str
    cut: bool = False  # whether the output reached the limit of tokens


class Answer(NamedTuple):
    """What the model wrote, and whether it ended by itself."""

    text: str
    finished: bool

    def meets(self, spec: dict[str, Any]) -> bool:
        """Whether it is complete and right."""
        return self.finished and verify.verify(spec, self.text)


@dataclass(frozen=True)
class Examinee:
    """A model that can be asked. `report` is told how many answers and choices have come in."""

    model: Decoder
    chat: Chat
    max_new_tokens: int
    seed: int
    batch_size: int
    report: Callable[[int], object] = lambda _: None

    def answer(self, items: Sequence[Item], temperature: float = 0.0) -> list[Answer]:
        """The next turn in the conversation of every item. Raises BenchmarkError naming an item that is none."""
        prompts = []
        for item in items:
            try:
                prompts.append(self.chat.prompt(item["messages"], item.get("tools")))
            except ConversationError as error:
                raise BenchmarkError(f"item {item['id']}: {error}") from None
            self._check_room(item, len(prompts[-1]) + self.max_new_tokens, " with evaluate.max_new_tokens")
        outputs = generate(
            self.model, prompts, max_new_tokens=self.max_new_tokens, stop=EOS, temperature=temperature,
            seed=self.seed, batch_size=self.batch_size, report=self.report,
        )  # fmt: skip
        texts = self.chat.tokenizer.decode_batch(outputs, skip_special_tokens=False)
        return [Answer(text, len(output) < self.max_new_tokens) for text, output in zip(texts, outputs, strict=True)]

    def choose(self, items: Sequence[Item]) -> list[int]:
        """The choice of largest log-probability per token for every item, after `BOS` and the item's context."""
        pairs = [(item["context"], choice) for item in items for choice in item["choices"]]
        asked = [item for item in items for _ in item["choices"]]
        contexts = self.chat.encode_texts([context for context, _ in pairs])
        texts = self.chat.encode_texts([context + choice for context, choice in pairs])
        for item, text in zip(asked, texts, strict=True):
            self._check_room(item, 1 + len(text))
        # A merge across the border makes the context's last tokens part of the continuation.
        borders = [num_common(context, text) for context, text in zip(contexts, texts, strict=True)]
        scores = loglikelihood(
            self.model,
            [[BOS, *text[:border]] for text, border in zip(texts, borders, strict=True)],
            [text[border:] for text, border in zip(texts, borders, strict=True)],
            batch_size=self.batch_size,
            report=self.report,
        )
        means = iter([total / num_tokens for total, num_tokens in scores])
        chosen = []
        for item in items:
            own = [next(means) for _ in item["choices"]]
            chosen.append(own.index(max(own)))
        return chosen

    def _check_room(self, item: Item, num_tokens: int, what: str = "") -> None:
        limit = self.model.config.max_position_embeddings
        if num_tokens > limit:
            raise BenchmarkError(
                f"item {item['id']} takes {num_tokens} tokens{what}, but the model has {limit} positions: shorten it, "
                "or train with a larger model.max_position_embeddings"
            )


def num_common(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens both begin with."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def num_reports(items: Sequence[Item]) -> int:
    """The largest number of answers and choices that `run` reports; fewer if calls are wrong."""
    return sum(
        len(item["choices"]) if item["kind"] == "choice" else 1 + (item["kind"] == "tool") + ("sampled" in item)
        for item in items
    )


def run(examinee: Examinee, items: Sequence[Item]) -> list[Result]:
    """The result of every item, in order, then those of overrefuse, then those of answers at temperature 1."""
    choices = [item for item in items if item["kind"] == "choice"]
    talks = [item for item in items if item["kind"] != "choice"]
    results: dict[str, Result] = {}
    for item, chosen in zip(choices, examinee.choose(choices), strict=True):
        correct = chosen == item["answer"]
        results[item["id"]] = Result(item["id"], item["family"], correct, item["choices"][chosen].strip())
    answers = dict(zip((item["id"] for item in talks), examinee.answer(talks), strict=True))
    for item in talks:
        answer = answers[item["id"]]
        correct = item["kind"] == "generate" and answer.meets(item["verify"])
        results[item["id"]] = Result(item["id"], item["family"], correct, answer.text, not answer.finished)
    for result in _after_call(examinee, [item for item in talks if item["kind"] == "tool"], answers):
        results[result.id] = result
    derived = [*_overrefuse(talks, answers), *_sampled(examinee, [item for item in talks if "sampled" in item])]
    return [*(results[item["id"]] for item in items), *derived]


def _after_call(examinee: Examinee, items: Sequence[Item], answers: dict[str, Answer]) -> list[Result]:
    """Results of those items whose tool was called as it should be."""
    called = [item for item in items if answers[item["id"]].meets({"kind": "call", "value": item["call"]})]
    continued = []
    for item in called:
        response = {"role": "tool", "content": item["result"]}
        continued.append(item | {"messages": [*item["messages"], verify.message(answers[item["id"]].text), response]})
    results = []
    for item, answer in zip(continued, examinee.answer(continued), strict=True):
        both = f"{answers[item['id']].text}\n{answer.text}"
        results.append(Result(item["id"], item["family"], answer.meets(item["verify"]), both, not answer.finished))
    return results


def _overrefuse(items: Sequence[Item], answers: dict[str, Answer]) -> list[Result]:
    results = []
    for item in items:
        if "refusals" in item:
            text, finished = answers[item["id"]]
            refused = verify.verify({"kind": "refusal", "value": item["refusals"]}, text)
            results.append(Result(item["id"], "overrefuse", refused, text, not finished))
    return results


def _sampled(examinee: Examinee, items: Sequence[Item]) -> list[Result]:
    return [
        Result(
            item["id"],
            item["sampled"]["family"],
            answer.meets(item["sampled"]["verify"]),
            answer.text,
            not answer.finished,
        )
        for item, answer in zip(items, examinee.answer(items, temperature=1.0), strict=True)
    ]


def families(results: Sequence[Result]) -> dict[str, dict[str, float]]:
    """For each family: its score from 0 to 1, n, and the Wilson 95% interval."""
    scores = {}
    for family in in_order(result.family for result in results):
        correct = [result.correct for result in results if result.family == family]
        low, high = wilson(sum(correct), len(correct))
        scores[family] = {
            "score": round(sum(correct) / len(correct), 6),
            "n": len(correct),
            "low": round(low, 6),
            "high": round(high, 6),
        }
    return scores


HeldOut = dict[str, dict[str, dict[str, dict[str, Any]]]]
"""Data set → file → language → figures, as of `heldout`."""


def write(
    metrics: Path, details: Path, about: Mapping[str, object], results: Sequence[Result], held_out: HeldOut
) -> None:
    """Write the families' scores and the held-out figures as JSON to `metrics`, the results as lines to `details`.

    about: "checkpoint" and "split", and of a model that was trained "parameters" and "digest".
    """
    files.write_text(details, "".join(json.dumps(asdict(result), ensure_ascii=False) + "\n" for result in results))
    files.write_json(metrics, {**about, "families": families(results), "held_out": held_out})


def flat(split: str, results: Sequence[Result], held_out: HeldOut) -> dict[str, float]:
    """All of it by names with slashes, for MLflow: "dev/know", "held_out/pretrain/0-books/en"."""
    values = {f"{split}/{family}": it["score"] for family, it in families(results).items()}
    for data_set, sources in held_out.items():
        for source, languages in sources.items():
            values |= {
                f"held_out/{data_set}/{source}/{language}": it["bits_per_byte"] for language, it in languages.items()
            }
    return values
