"""Stage teacher: chat model + prompts + packed text → its verified answers and what it predicts of their tokens."""

from dataclasses import dataclass
from pathlib import Path

from minimind import checkpoint, columns, config, files, hardware, process, teacher
from minimind.chat import Chat
from minimind.intake import vocabulary
from minimind.limits import Seed
from minimind.resume import Resume
from minimind.rows import Rows, write_columns
from minimind.teacher import TeacherConfig


@dataclass(frozen=True)
class Params:
    seed: Seed
    teacher: TeacherConfig


def main(parent: Path, prompts: Path, pretrain: Path, tokenizer: Path, out: Path) -> None:
    params, runtime = config.load(Params), config.runtime()
    files.verify(parent, prompts, tokenizer)
    vocabulary.check_equal(parent, tokenizer)  # a student learns the teacher's probabilities token by token
    inputs = {"parent": parent, "prompts": prompts, "pretrain": pretrain}
    if not any(prompts.glob("*.jsonl")):
        with files.folder(out) as partial:
            files.write_json(partial / checkpoint.DISABLED, {"reason": "params.yaml has no data.prompts"})
            files.write_manifest(partial, {"lineage": checkpoint.lineage("teacher", inputs, params)})
        return
    device, dtype = hardware.setup(runtime)
    model, chat, top_k = checkpoint.load(parent, dtype).to(device), Chat(parent), params.teacher.top_k
    text = {split: Rows.open(pretrain, split) for split in ("train", "validation")}
    with Resume("teacher") as resume, files.folder(out) as partial:
        answers = teacher.answer(
            model, chat, prompts, params.teacher, params.seed, runtime.evaluation_batch_size, resume
        )  # fmt: skip
        statistics = teacher.pack(answers, chat, text, params.teacher, params.seed, partial)
        print(f"teacher: {teacher.told(statistics['verdicts'])}")
        for split in text:
            rows = Rows.open(partial, split)
            shapes = teacher.shapes(rows.row_length, rows.vocab_size, top_k)
            predicted = columns.compute(
                lambda batch: teacher.predict(model, batch, top_k), rows, shapes, resume, split, device
            )
            write_columns(partial / f"{split}-predictions.arrow", predicted)
        for name in checkpoint.TOKENIZER_FILES:  # a student speaks by the template that its teacher does
            (partial / name).write_bytes((parent / name).read_bytes())
        files.write_manifest(partial, {"lineage": checkpoint.lineage("teacher", inputs, params)})


if __name__ == "__main__":
    process.run(main)
