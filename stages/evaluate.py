"""Stage evaluate: checkpoint + benchmark + clean data → scores, every item's answer, held-out bits per byte."""

from dataclasses import dataclass
from pathlib import Path

from minimind import benchmark, checkpoint, config, files, hardware, heldout, process, score, tracking
from minimind.chat import Chat
from minimind.limits import Seed
from minimind.packing import PackConfig
from minimind.progress import Progress
from minimind.score import EvaluateConfig
from minimind.shards import Recipe


@dataclass(frozen=True)
class Params:
    seed: Seed
    evaluate: EvaluateConfig
    pack: PackConfig


def main(folder: Path, exam: Path, pretrain: Path, sft: Path, metrics: Path, details: Path) -> None:
    params, runtime = config.load(Params), config.runtime()
    name, split, pack = folder.name, params.evaluate.split, params.pack
    about: dict[str, object] = {"checkpoint": name, "split": split}
    if reason := checkpoint.disabled(folder):
        return score.write(metrics, details, about | {"reason": reason}, [], {})
    process.claim(f"evaluate@{name}")
    files.verify(folder, exam, pretrain, sft)
    device, dtype = hardware.setup(runtime)
    items = benchmark.read(exam, split) if any(exam.glob("*.jsonl")) else []
    unseen = heldout.groups([pretrain, sft], pack.validation_share)
    digests = {"parent": checkpoint.digest(folder), "data": checkpoint.digest(exam)}
    with tracking.start(f"evaluate@{name}", params, inputs=digests) as run:
        chat, batch_size = Chat(folder), runtime.evaluation_batch_size
        model = checkpoint.load(folder, dtype).cut_vocabulary(chat.tokenizer.get_vocab_size()).to(device)
        with Progress(f"{name}: held out", sum(len(group.documents) for group in unseen), "document") as bar:
            length = min(pack.max_seq_len, model.config.max_position_embeddings)
            recipe = Recipe(folder, length, pack.validation_share, pack.thinking_off_share)
            figures = heldout.measure(model, recipe, unseen, batch_size, bar.update)
        with Progress(name, score.num_reports(items), "answer") as bar:
            examinee = score.Examinee(model, chat, params.evaluate.max_new_tokens, params.seed, batch_size, bar.update)
            results = score.run(examinee, items)
        about |= {"parameters": model.num_parameters(), "digest": digests["parent"]}
        score.write(metrics, details, about, results, figures)
        run.artifact(details)
        run.checkpoint(folder, score.flat(split, results, figures))


if __name__ == "__main__":
    process.run(main)
