"""Stage sft: base model + packed conversations → chat model; a share of pretraining rows is replayed."""

from dataclasses import dataclass
from pathlib import Path

from minimind import checkpoint, config, distributed, files, hardware, lora
from minimind.batches import Batches, Source, validation
from minimind.intake import vocabulary
from minimind.limits import Seed
from minimind.model import Decoder
from minimind.objectives.language import Language, bits_per_byte
from minimind.recipes.sft import SftConfig
from minimind.rows import Rows
from minimind.train import fit, pass_on


@dataclass(frozen=True)
class Params:
    seed: Seed
    sft: SftConfig


def main(base: Path, packed: Path, replayed: Path, tokenizer: Path, out: Path, metrics: Path, curve: Path) -> None:
    params, runtime = config.load(Params), config.runtime()
    files.verify(base, tokenizer)
    vocabulary.check_equal(base, tokenizer)  # the base may be someone else's
    device, dtype = hardware.setup(runtime)
    rows, held_out = Rows.open(packed, "train"), Rows.open(packed, "validation")
    inputs = {"parent": base, "data": packed, "replay": replayed, "tokenizer": tokenizer}
    if len(rows) == 0:
        return pass_on("sft", params, base, device, inputs, out, metrics, curve)
    documents = Rows.open(replayed, "train")
    replay = params.sft.replay if len(documents) else 0.0  # a base may come without its documents
    sources = [Source(rows, 1 - replay)] + ([Source(documents, replay)] if replay else [])

    def validate(model: Decoder) -> dict[str, float]:
        batches = validation(Source(held_out), runtime.rows_at_once(params.sft.batch_size))
        return {"bits_per_byte": bits_per_byte(model, batches, held_out.target_bytes)}

    model = lora.attach(checkpoint.load(base, dtype), params.sft.lora, params.seed)
    fit(
        "sft", params, model.to(device), Language(),
        Batches(sources, params.sft.batch_size, params.seed), params.sft, runtime,
        validate=validate if len(held_out) else None, inputs=inputs, tokenizer=tokenizer, out=out,
        metrics=metrics, curve=curve, finish=lambda model: lora.merge(model, params.sft.lora, base),
    )  # fmt: skip


if __name__ == "__main__":
    distributed.run(main)
