"""Stage reference: chat model + packed pairs → the log-probability of every answer before DPO."""

from pathlib import Path

from torch import Tensor

from minimind import checkpoint, columns, config, files, hardware, process
from minimind.batches import Batch
from minimind.losses import sequence_logprobs
from minimind.resume import Resume
from minimind.rows import Rows, write_columns


def main(parent: Path, packed: Path, out: Path) -> None:
    """Without pairs, or for a split without any, the columns are empty."""
    device, dtype = hardware.setup(config.runtime())
    model = checkpoint.load(parent, dtype).to(device)
    with Resume("reference") as resume, files.folder(out) as partial:
        for split in ("train", "validation"):
            rows = Rows.open(packed, split)

            def logprobs(batch: Batch, max_documents: int = rows.max_documents) -> dict[str, Tensor]:
                logits = model.logits(model(batch["ids"], batch["documents"])[0])
                return {"reference": sequence_logprobs(logits, batch["targets"], batch["documents"], max_documents)}

            shapes = {"reference": ((max(1, rows.max_documents),), "float32")}
            write_columns(partial / f"{split}.arrow", columns.compute(logprobs, rows, shapes, resume, split, device))
        lineage = checkpoint.lineage("reference", {"parent": parent, "data": packed}, None)
        files.write_manifest(partial, {"lineage": lineage})


if __name__ == "__main__":
    process.run(main)
