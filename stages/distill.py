"""Stage distill: the teacher's answers and predictions → student; and a control that gets the answers only."""

from dataclasses import dataclass, replace
from pathlib import Path

from minimind import checkpoint, columns, config, distributed, files, hardware
from minimind.batches import Batches, Source, validation
from minimind.limits import Seed
from minimind.model import Decoder, ModelConfig
from minimind.objectives.distillation import Distillation, measure
from minimind.recipes.distill import DistillConfig
from minimind.rows import Rows
from minimind.train import fit, leave_out


@dataclass(frozen=True)
class Params:
    seed: Seed
    student: ModelConfig
    distill: DistillConfig


def main(data: Path, preset: Path, *outs: Path) -> None:
    """The last six paths: folder, metrics and curve of the student, then of the control."""
    params, runtime = config.load(Params, preset=preset), config.runtime()
    files.verify(data)
    device, dtype = hardware.setup(runtime)
    if reason := checkpoint.disabled(data):
        return leave_out(reason, device, *outs)
    rows, held_out = Rows.open(data, "train"), Rows.open(data, "validation")
    judged = columns.source(held_out, data, "validation-predictions")

    def validate(model: Decoder) -> dict[str, float]:
        batches = validation(judged, runtime.rows_at_once(params.distill.batch_size))
        return measure(model, batches, held_out.target_bytes)

    def train(part: str, source: Source, recipe: DistillConfig, out: Path, metrics: Path, curve: Path) -> None:
        student = Decoder(params.student.with_vocabulary(rows.vocab_size), dtype).initialise(params.seed)
        fit(
            "distill", replace(params, distill=recipe), student.to(device),
            Distillation(recipe.alpha, recipe.temperature), Batches([source], recipe.batch_size, params.seed), recipe,
            runtime, validate=validate if len(held_out) else None, inputs={"data": data}, tokenizer=data,
            teacher=files.read_manifest(data)["lineage"]["inputs"]["parent"], out=out, metrics=metrics, curve=curve,
            part=part,
        )  # fmt: skip

    train("distill", columns.source(rows, data, "train-predictions"), params.distill, *outs[:3])
    if params.distill.control:
        train("control", Source(rows), replace(params.distill, alpha=0.0), *outs[3:])
    else:
        leave_out("distill.control is false", device, *outs[3:])


if __name__ == "__main__":
    distributed.run(main)
