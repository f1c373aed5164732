"""Stage pretrain: packed documents + the model's preset, or a base of someone else's → base model."""

from dataclasses import dataclass
from pathlib import Path

from minimind import checkpoint, config, distributed, files, hardware
from minimind.batches import Batches, Source, validation
from minimind.errors import UserError
from minimind.intake import vocabulary
from minimind.limits import Seed
from minimind.model import Decoder, ModelConfig
from minimind.objectives.language import Language, bits_per_byte
from minimind.rows import Rows
from minimind.train import TrainConfig, fit, pass_on


@dataclass(frozen=True)
class Params:
    seed: Seed
    base: bool
    model: ModelConfig
    pretrain: TrainConfig


def main(base: Path, packed: Path, tokenizer: Path, preset: Path, out: Path, metrics: Path, curve: Path) -> None:
    params, runtime = config.load(Params, preset=preset), config.runtime()
    files.verify(tokenizer)
    device, dtype = hardware.setup(runtime)
    rows, held_out = Rows.open(packed, "train"), Rows.open(packed, "validation")
    inputs = {"data": packed, "tokenizer": tokenizer}
    if params.base:
        inputs["parent"] = base / "model"
        files.verify(base / "model")
        vocabulary.check_equal(inputs["parent"], tokenizer)
    if len(rows) == 0:
        if not params.base:
            raise UserError(
                "params.yaml has no data.pretrain: add documents, or set base to true, with a base to go on"
            )
        return pass_on("pretrain", params, inputs["parent"], device, inputs, out, metrics, curve)
    if params.base:
        model = checkpoint.load(inputs["parent"], dtype)
    else:
        model = Decoder(params.model.with_vocabulary(rows.vocab_size), dtype).initialise(params.seed)

    def validate(model: Decoder) -> dict[str, float]:
        batches = validation(Source(held_out), runtime.rows_at_once(params.pretrain.batch_size))
        return {"bits_per_byte": bits_per_byte(model, batches, held_out.target_bytes)}

    fit(
        "pretrain", params, model.to(device), Language(),
        Batches([Source(rows)], params.pretrain.batch_size, params.seed), params.pretrain, runtime,
        validate=validate if len(held_out) else None, inputs=inputs, tokenizer=tokenizer, out=out,
        metrics=metrics, curve=curve,
    )  # fmt: skip


if __name__ == "__main__":
    distributed.run(main)
