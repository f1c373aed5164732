"""Stage evaluate: checkpoint + benchmark → the score of each family, and every item's answer."""

from dataclasses import dataclass
from pathlib import Path

from minimind import checkpoint, config, hardware, process, score, tracking
from minimind.chat import Chat
from minimind.limits import Seed
from minimind.progress import Progress
from minimind.score import EvaluateConfig


@dataclass(frozen=True)
class Params:
    seed: Seed
    evaluate: EvaluateConfig


def main(folder: Path, benchmark: Path, metrics: Path, details: Path) -> None:
    params, runtime = config.load(Params), config.runtime()
    name, split = folder.name, params.evaluate.split
    absent = "" if any(benchmark.glob("*.jsonl")) else "params.yaml has no data.benchmark"
    if reason := checkpoint.disabled(folder) or absent:
        return score.write(metrics, details, name, split, [], reason)
    process.claim(f"evaluate@{name}")
    device, dtype = hardware.setup(runtime)
    items = score.read(benchmark, split)
    digests = {"parent": checkpoint.digest(folder), "data": checkpoint.digest(benchmark)}
    with (
        tracking.start(f"evaluate@{name}", params, inputs=digests) as run,
        Progress(name, score.num_reports(items), "answer") as bar,
    ):
        chat = Chat(folder)
        model = checkpoint.load(folder, dtype).cut_vocabulary(chat.tokenizer.get_vocab_size()).to(device)
        examinee = score.Examinee(
            model, chat, params.evaluate.max_new_tokens, params.seed, runtime.evaluation_batch_size, bar.update
        )
        results = score.run(examinee, items)
        score.write(metrics, details, name, split, results)
        run.artifact(details)
        run.checkpoint(folder, {f"{split}/{family}": it["score"] for family, it in score.families(results).items()})


if __name__ == "__main__":
    process.run(main)
