"""What a teacher says to prompts, judged and packed for a student.

The teacher answers every prompt. Where a prompt says how to verify its answer only accepted answers are kept, so that
the student does not learn mistakes. They are packed together with rows of pretraining text, from which a student that
begins with random weights learns the language; and for every target the teacher's most probable tokens are stored.
"""

import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch

from minimind import corpus, files, limits, lossless, prompts, storage
from minimind.batches import Batch
from minimind.chat import Chat, ConversationError
from minimind.errors import UserError
from minimind.fitting import BestFit, Tokens
from minimind.generate import generate
from minimind.journal import Journal
from minimind.limits import Limits, Part, Share
from minimind.losses import IGNORE
from minimind.model import Decoder
from minimind.process import STOPPED
from minimind.progress import Progress
from minimind.prompts import KEPT, Prompt, Usability, judge
from minimind.resume import Resume
from minimind.rows import MAX_ROW_LENGTH, Rows, RowWriter
from minimind.tokenizer import EOS, token_bytes

PROMPTS_PER_CHUNK = 512  # answered between two saves; not a knob, since drawn answers depend on it
LIMIT = "teacher.max_unusable_share"
EXCERPT = 60  # characters of an answer that a message quotes

MEANINGS = {
    "bad prompt": "that can't be used",
    "empty": "to which it says nothing",
    "too long": "that are too long for it, or for a row",
    "unfinished": "to which it finds no end within teacher.max_new_tokens",
    "wrong": "to which it gives a wrong answer",
}
"""The other verdicts, in words."""


class TeacherError(UserError):
    """Prompts or rows that do not serve; the message says which and the mend."""


@dataclass(frozen=True)
class TeacherConfig:
    """Section `teacher` of params.yaml. Raises ValueError naming the field."""

    top_k: Annotated[int, Limits(1, 1024)]  # tokens whose probability is stored for every target
    max_new_tokens: Annotated[int, Limits(1, MAX_ROW_LENGTH)]  # of an answer; one that needs more is dropped
    pretrain_rows: Annotated[int, Limits(0, 10**9)]  # of text, at most, are added to the answers
    validation_share: Part  # of the prompts, by content, and of as many rows of text, is kept for validation
    temperature: Annotated[float, Limits(0, 100)] = 0.0  # 0: the most probable answer
    # For temperatures above 0: draw from the most probable tokens that hold this share.
    top_p: Annotated[float, Limits(0, 1, above=True)] = 1.0
    max_unusable_share: Share = 0.5  # of the prompts may bring no answer to learn from; more fail the stage

    def __post_init__(self) -> None:
        limits.check(self, "teacher")


def answer(
    model: Decoder, chat: Chat, folder: Path, config: TeacherConfig, seed: int, batch_size: int, resume: Resume
) -> Path:
    """Answer every prompt in `folder`. Returns a JSON-lines file in the resume folder, in the prompts' order.

    A line is {"prompt" (its place), "family", "verdict", "messages", "tools", "answer", "tokens"}, or {"prompt",
    "family", "verdict", "detail"} for a bad prompt. After a kill it continues behind the last chunk. On SIGTERM or
    SIGINT it saves and exits with status 143.

    Raises PromptsError if too many of them can't be read. Rows of `model` beyond the tokens of `chat` are cut off, in
    place: neither answers nor `predict` may name them.
    """
    model.cut_vocabulary(chat.tokenizer.get_vocab_size())
    readable = prompts.inspect(folder)
    readable.check(LIMIT, config.max_unusable_share)  # before anything is answered
    path = resume.folder / "answers.jsonl"
    state = resume.load() or {}
    done, marks = state.get("prompts", 0), state.setdefault("files", {})
    asked = islice(prompts.read(folder), done, None)
    total = readable.verdicts.total()
    with (
        storage.guard(resume.folder),
        Journal(path, marks[path.name] if done else None) as journal,
        Progress("answers", total, "prompt", done) as bar,
    ):
        while chunk := list(islice(asked, PROMPTS_PER_CHUNK)):
            # Each chunk draws from its own stream of random numbers.
            for record in _answer(model, chat, chunk, config, seed + done, batch_size, bar.update):
                journal.write(lossless.text(record).encode() + b"\n")
            done += len(chunk)
            marks[path.name] = journal.mark()  # on the disk before the state that names it
            state["prompts"] = done
            resume.save(done, state)
            if resume.stop_requested:
                sys.exit(STOPPED)
    if done == 0:
        raise TeacherError(f"{folder} holds no prompts: add some to the data set, or set fetch to bring them")
    return path


def _answer(
    model: Decoder,
    chat: Chat,
    chunk: list[tuple[str, Prompt | ConversationError]],
    config: TeacherConfig,
    seed: int,
    batch_size: int,
    report: Callable[[int], object],
) -> Iterator[dict[str, Any]]:
    room = model.config.max_position_embeddings - config.max_new_tokens
    encoded: dict[str, list[int]] = {}
    for place, prompt in chunk:
        if isinstance(prompt, Prompt):
            encoded[place] = chat.prompt(prompt.conversation.messages, prompt.conversation.tools)
    answered = {place: ids for place, ids in encoded.items() if len(ids) <= room}
    outputs = generate(
        model, list(answered.values()), max_new_tokens=config.max_new_tokens, stop=EOS,
        temperature=config.temperature, top_p=config.top_p, seed=seed, batch_size=batch_size, report=report,
    )  # fmt: skip
    report(len(chunk) - len(answered))
    said = dict(zip(answered, outputs, strict=True))
    for place, prompt in chunk:
        if isinstance(prompt, ConversationError):
            yield {"prompt": place, "family": "all", "verdict": prompts.BAD, "detail": str(prompt)}
            continue
        tokens = said.get(place, [])
        text = chat.tokenizer.decode(tokens, skip_special_tokens=True)
        verdict = judge(prompt.verify, text, len(tokens) < config.max_new_tokens) if place in said else "too long"
        record = {"prompt": place, "family": prompt.family, "verdict": verdict}
        asked = {"messages": prompt.conversation.messages, "tools": prompt.conversation.tools}
        yield record | asked | {"answer": text, "tokens": tokens}


def pack(
    answers: Path, chat: Chat, pretrain: dict[str, Rows], config: TeacherConfig, seed: int, out: Path
) -> dict[str, Any]:
    """Write `train.arrow` and `validation.arrow`, `answers.jsonl` and `statistics.json` into the folder `out`.

    Kept answers are packed as prompt, answer and end, of which answer and end are learned; behind them come rows of
    `pretrain`, which has the same two splits. Returns the statistics: rows by split, verdicts, and verdicts by family.
    Raises PromptsError if too many prompts brought no answer to keep, TeacherError where a split is left with no rows.
    """
    sizes = np.array(token_bytes(chat.tokenizer))
    length, vocab_size = pretrain["train"].row_length, pretrain["train"].vocab_size
    verdicts: dict[str, Counter[str]] = {}  # by family
    usability = Usability()
    with ExitStack() as stack:
        stream = stack.enter_context((out / "answers.jsonl").open("w", encoding="utf-8", newline="\n"))
        writers = {
            split: stack.enter_context(RowWriter(out / f"{split}.arrow", length, vocab_size)) for split in pretrain
        }
        fits = {split: BestFit(writer) for split, writer in writers.items()}
        for line in stack.enter_context(answers.open(encoding="utf-8")):
            record = lossless.loads(line)
            if record["verdict"] in KEPT:
                document = encode(record, chat, sizes)
                if len(document.ids) > length:
                    record["verdict"] = "too long"
                else:
                    held_out = corpus.fraction(content(record), "split") < config.validation_share
                    fits["validation" if held_out else "train"].add([document])
            usability.add(record["prompt"], record["verdict"], record.get("detail", excerpt(record)))
            verdicts.setdefault(record["family"], Counter())[record["verdict"]] += 1
            record.pop("tokens", None)
            stream.write(lossless.text(record) + "\n")
        usability.check(LIMIT, config.max_unusable_share, f" All of them, with the answers, are in {answers}.")
        for split, fit in fits.items():
            fit.finish()
            copy(pretrain[split], rows_of_text(pretrain[split], split, config, seed), sizes, writers[split])
    num_rows = {split: writer.num_rows for split, writer in writers.items()}
    total = sum(verdicts.values(), Counter())
    if not num_rows["train"]:
        raise TeacherError(
            f"none of the teacher's answers is kept for the student ({dict(total)}): train the teacher longer, bring "
            "more prompts, or raise teacher.pretrain_rows"
        )
    families = {family: dict(sorted(counts.items())) for family, counts in sorted(verdicts.items())}
    statistics = {"rows": num_rows, "verdicts": dict(sorted(total.items())), "families": families}
    files.write_json(out / "statistics.json", statistics)
    files.write_manifest(out)
    return statistics


def excerpt(record: dict[str, Any]) -> str:
    """How an answer begins, for a message; nothing where there is none."""
    said = record.get("answer", "")
    return f"{said[:EXCERPT]!r}" if said else ""


def told(verdicts: Mapping[str, int]) -> str:
    """What became of the answers, in words; `verdicts` counts them."""
    total, kept = sum(verdicts.values()), sum(verdicts.get(verdict, 0) for verdict in KEPT)
    start = f"the student learns from the teacher's answers to {kept:,} of {total:,} prompts, and from rows of text"
    if not kept:
        start = f"the student learns from rows of text alone: no answer to any of {total:,} prompts can be used"
    lost = [(number, verdict) for verdict, number in sorted(verdicts.items()) if verdict not in KEPT]
    left_out = ", ".join(f"{number:,} {MEANINGS.get(verdict, verdict)}" for number, verdict in lost)
    return f"{start}; left out are prompts: {left_out}" if lost else start


def content(record: dict[str, Any]) -> str:
    """What makes two prompts the same."""
    return lossless.text([record["messages"], record["tools"]], sort_keys=True)


def encode(record: dict[str, Any], chat: Chat, sizes: np.ndarray) -> Tokens:
    """Prompt, answer and end, exactly as the teacher read and wrote them. sizes (V,): bytes of each token."""
    learned = [*record["tokens"], EOS]
    ids = np.array([*chat.prompt(record["messages"], record["tools"]), *learned], dtype=np.uint32)
    learn = np.zeros(len(ids), dtype=np.uint8)
    learn[-len(learned) :] = 1
    return Tokens(ids, learn, int(sizes[learned].sum()))


def rows_of_text(pretrain: Rows, split: str, config: TeacherConfig, seed: int) -> list[int]:
    """Which rows of pretraining text go into a split: drawn at random, in their order; all, if there are fewer."""
    count = config.pretrain_rows
    if split == "validation":
        count = math.ceil(count * config.validation_share)
    order = torch.randperm(len(pretrain), generator=torch.Generator().manual_seed(seed))
    return sorted(order[:count].tolist())


def copy(rows: Rows, indices: list[int], sizes: np.ndarray, writer: RowWriter) -> None:
    """Append these rows. sizes (V,): the UTF-8 bytes that each token stands for."""
    for index in indices:
        tokens, learn, numbers = (rows.column(name)[index] for name in ("tokens", "learn", "documents"))
        documents = []
        for number in range(1, int(numbers.max()) + 1):
            here = numbers == number
            documents.append((tokens[here], learn[here], int(sizes[tokens[here & (learn == 1)]].sum())))
        writer.add(documents)


def shapes(row_length: int, vocab_size: int, top_k: int) -> dict[str, tuple[tuple[int, ...], str]]:
    """Of the columns that `predict` fills: for each position top_k tokens, and one log-probability more."""
    # Signed, since unsigned numbers of two bytes and more are not known to every device that trains.
    return {
        "teacher_ids": ((row_length, top_k), "int16" if vocab_size <= 2**15 else "int32"),
        "teacher_logprobs": ((row_length, top_k + 1), "float16"),
    }


def predict(model: Decoder, batch: Batch, top_k: int) -> dict[str, torch.Tensor]:
    """The teacher's most probable tokens at each position with a target; zeros at the others.

    Returns teacher_ids (B, T, top_k), int64, most probable first, and teacher_logprobs (B, T, top_k + 1), fp16, in
    nats: of those tokens, and last of all other tokens together.
    """
    logits = model.logits(model(batch["ids"], batch["documents"])[0])
    if top_k > logits.shape[-1]:
        raise TeacherError(f"teacher.top_k is {top_k}, and the vocabulary has {logits.shape[-1]} tokens: lower it")
    kept, ids = logits.topk(top_k, -1)
    others = logits.scatter(-1, ids, -torch.inf).logsumexp(-1, keepdim=True)
    logprobs = torch.cat((kept, others), -1) - logits.logsumexp(-1, keepdim=True)
    missing = (batch["targets"] == IGNORE)[..., None]
    lowest = torch.finfo(torch.float16).min  # a probability of 0, which a loss can still multiply
    return {
        "teacher_ids": ids.masked_fill(missing, 0),
        "teacher_logprobs": logprobs.clamp(min=lowest).masked_fill(missing, 0).half(),
    }
