"""Stage dpo: chat model + packed pairs + their reference log-probabilities → aligned model."""

from dataclasses import dataclass
from pathlib import Path

from minimind import checkpoint, columns, config, distributed, files, hardware, lora
from minimind.batches import Batches, validation
from minimind.intake import vocabulary
from minimind.limits import Seed
from minimind.model import Decoder
from minimind.objectives.preference import Preference, measure
from minimind.recipes.dpo import DpoConfig
from minimind.rows import Rows
from minimind.train import fit, pass_on


@dataclass(frozen=True)
class Params:
    seed: Seed
    dpo: DpoConfig


def main(parent: Path, packed: Path, reference: Path, tokenizer: Path, out: Path, metrics: Path, curve: Path) -> None:
    params, runtime = config.load(Params), config.runtime()
    files.verify(parent, tokenizer)
    vocabulary.check_equal(parent, tokenizer)
    device, dtype = hardware.setup(runtime)
    rows, held_out = Rows.open(packed, "train"), Rows.open(packed, "validation")
    inputs = {"parent": parent, "data": packed, "reference": reference, "tokenizer": tokenizer}
    if len(rows) == 0:
        return pass_on("dpo", params, parent, device, inputs, out, metrics, curve)
    pairs, judged = columns.source(rows, reference, "train"), columns.source(held_out, reference, "validation")
    objective = Preference(params.dpo.beta, params.dpo.nll, params.dpo.length_normalised)

    def validate(model: Decoder) -> dict[str, float]:
        return measure(model, objective, validation(judged, runtime.rows_at_once(params.dpo.batch_size)))

    model = lora.attach(checkpoint.load(parent, dtype), params.dpo.lora, params.seed)
    fit(
        "dpo", params, model.to(device), objective,
        Batches([pairs], params.dpo.batch_size, params.seed), params.dpo, runtime,
        validate=validate if len(held_out) else None, inputs=inputs, tokenizer=tokenizer, out=out,
        metrics=metrics, curve=curve, finish=lambda model: lora.merge(model, params.dpo.lora, parent),
    )  # fmt: skip


if __name__ == "__main__":
    distributed.run(main)
