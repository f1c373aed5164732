"""Stage distill: the teacher's answers and predictions → student; and a control that gets the answers only."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

from minimind import columns, config, files, hardware
from minimind.batches import Batches, Source, validation
from minimind.model import Decoder, ModelConfig
from minimind.objectives.distillation import Distillation, measure
from minimind.rows import Rows
from minimind.train import TrainConfig, fit


@dataclass(frozen=True)
class DistillConfig(TrainConfig):
    alpha: float = 0.7  # weight of the teacher's predictions; the rest is cross-entropy
    temperature: float = 1.0  # above 1: both distributions are flattened before they are compared
    control: bool = True  # train the same student without the predictions, to see what they bring


@dataclass(frozen=True)
class Params:
    seed: int
    student: ModelConfig
    distill: DistillConfig


def main(
    data: Path, tokenizer: Path, distill_out: Path, distill_metrics: Path, distill_curve: Path,
    control_out: Path, control_metrics: Path, control_curve: Path,
) -> None:  # fmt: skip
    params, runtime = config.load(Params), config.runtime()
    device, dtype = hardware.setup(runtime)
    rows, held_out = Rows.open(data, "train"), Rows.open(data, "validation")
    judged = columns.source(held_out, data, "validation-predictions")

    def validate(model: Decoder) -> dict[str, float]:
        return measure(model, validation(judged, params.distill.batch_size), held_out.target_bytes)

    def train(part: str, source: Source, alpha: float, out: Path, metrics: Path, curve: Path) -> None:
        student = Decoder(replace(params.student, vocab_size=rows.vocab_size), dtype).initialise(params.seed)
        fit(
            "distill", params, student.to(device), Distillation(alpha, params.distill.temperature),
            Batches([source], params.distill.batch_size, params.seed), params.distill, runtime, validate=validate,
            inputs={"data": data, "tokenizer": tokenizer}, tokenizer=tokenizer,
            out=out, metrics=metrics, curve=curve, part=part,
        )  # fmt: skip

    taught = columns.source(rows, data, "train-predictions")
    train("distill", taught, params.distill.alpha, distill_out, distill_metrics, distill_curve)
    if params.distill.control:
        train("control", Source(rows), 0.0, control_out, control_metrics, control_curve)
    else:
        with files.folder(control_out) as partial:
            files.write_json(partial / "disabled.json", {"reason": "distill.control is false"})
        files.write_json(control_metrics, {})
        files.write_text(control_curve, "step\n")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
