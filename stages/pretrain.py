"""Stage pretrain: packed documents + the model's preset → base model."""

from dataclasses import dataclass
from pathlib import Path

from minimind import config, distributed, hardware
from minimind.batches import Batches, Source, validation
from minimind.model import Decoder, ModelConfig
from minimind.objectives.language import Language, bits_per_byte
from minimind.rows import Rows
from minimind.train import TrainConfig, fit


@dataclass(frozen=True)
class Params:
    seed: int
    model: ModelConfig
    pretrain: TrainConfig


def main(packed: Path, tokenizer: Path, preset: Path, out: Path, metrics: Path, curve: Path) -> None:
    params, runtime = config.load(Params, preset=preset), config.runtime()
    device, dtype = hardware.setup(runtime)
    rows, held_out = Rows.open(packed, "train"), Rows.open(packed, "validation")
    judged = Source(held_out)
    model = Decoder(params.model.with_vocabulary(rows.vocab_size), dtype).initialise(params.seed).to(device)

    def validate(model: Decoder) -> dict[str, float]:
        batches = validation(judged, params.pretrain.batch_size)
        return {"bits_per_byte": bits_per_byte(model, batches, held_out.target_bytes)}

    fit(
        "pretrain", params, model, Language(), Batches([Source(rows)], params.pretrain.batch_size, params.seed),
        params.pretrain, runtime, validate=validate, inputs={"data": packed, "tokenizer": tokenizer},
        tokenizer=tokenizer, out=out, metrics=metrics, curve=curve,
    )  # fmt: skip


if __name__ == "__main__":
    distributed.run(main)
