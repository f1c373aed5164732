"""What a frozen model says about packed rows, computed once: columns beside the rows, in bounded memory, resumable."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from minimind import files
from minimind.batches import Batch, Source, collate
from minimind.process import STOPPED
from minimind.progress import Progress
from minimind.resume import Resume
from minimind.rows import Rows, read_columns

TOKENS_PER_BATCH = 8192  # bounds the memory; not a knob, so that results do not vary with it
SAVE_EVERY = 8  # batches

Shape = tuple[tuple[int, ...], str]
"""What a column holds for one row: its shape and the name of its dtype in numpy."""


@torch.inference_mode()
def compute(
    function: Callable[[Batch], Mapping[str, torch.Tensor]],
    rows: Rows,
    shapes: Mapping[str, Shape],
    resume: Resume,
    name: str,
    device: torch.device,
) -> dict[str, np.ndarray]:
    """The columns (N, …) that `function` yields for batches of rows, mapped from files in the resume folder.

    `function` gives a tensor (B, …) for every name in `shapes`. `name` tells several computations of one stage
    apart. After a kill it continues behind the rows that were saved; on SIGTERM or SIGINT it saves and exits with
    status 143.
    """
    state = resume.load() or {}
    done = state.get(name, 0)
    if len(rows) == 0:  # an empty file can't be mapped
        return {column: np.zeros((0, *shape), dtype) for column, (shape, dtype) in shapes.items()}
    mode: Literal["r+", "w+"] = "r+" if done else "w+"
    maps = {
        column: np.memmap(resume.folder / f"{name}.{column}", dtype, mode, shape=(len(rows), *shape))
        for column, (shape, dtype) in shapes.items()
    }

    def save() -> None:
        for values in maps.values():
            values.flush()
        state[name] = done
        resume.save(sum(state.values()), state)  # all that counts only grows

    batch_size = max(1, TOKENS_PER_BATCH // rows.row_length)
    with Progress(name, len(rows), "row", done) as bar:
        for number, start in enumerate(range(done, len(rows), batch_size), 1):
            done = min(start + batch_size, len(rows))
            batch = collate(Source(rows), np.arange(start, done))
            results = function({key: value.to(device) for key, value in batch.items()})
            for column, values in maps.items():
                values[start:done] = results[column].cpu().numpy()
            bar.update(done - start)
            stop = resume.stop_requested
            if stop or number % SAVE_EVERY == 0 or done == len(rows):
                save()
            if stop:
                sys.exit(STOPPED)
    return dict(maps)


def source(rows: Rows, folder: Path, name: str, share: float = 1.0) -> Source:
    """A source of batches whose extra columns are those of `folder`/`name`.arrow, row by row.

    Raises files.CorruptError if the file differs from what the folder's manifest says.
    """
    files.verify_manifest(folder, only=[f"{name}.arrow"])
    extras, _ = read_columns(folder / f"{name}.arrow")
    assert all(len(values) == len(rows) for values in extras.values()), f"{folder} belongs to other rows"
    return Source(rows, share, extras)
