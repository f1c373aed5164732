"""What a frozen model says about packed rows, computed once: columns beside the rows, in bounded memory, resumable."""

import math
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch

from minimind import files, storage
from minimind.batches import Batch, Source, collate
from minimind.journal import Journal, Mark
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
    paths = {column: resume.folder / f"{name}.{column}" for column in shapes}
    marks: dict[str, Mark] = state.setdefault("files", {})
    batch_size = max(1, TOKENS_PER_BATCH // rows.row_length)
    with ExitStack() as stack:
        stack.enter_context(storage.guard(resume.folder, wanted=_num_bytes(shapes, len(rows) - done)))
        bar = stack.enter_context(Progress(name, len(rows), "row", done))
        journals = {
            column: stack.enter_context(Journal(path, marks[path.name] if done else None))
            for column, path in paths.items()
        }
        for number, start in enumerate(range(done, len(rows), batch_size), 1):
            done = min(start + batch_size, len(rows))
            batch = collate(Source(rows), np.arange(start, done))
            results = function({key: value.to(device) for key, value in batch.items()})
            for column, (shape, dtype) in shapes.items():
                values = results[column].cpu().numpy().astype(dtype, copy=False)
                assert values.shape == (done - start, *shape), f"{column} has another shape"
                journals[column].write(values.tobytes())
            bar.update(done - start)
            stop = resume.stop_requested
            if stop or number % SAVE_EVERY == 0 or done == len(rows):
                marks |= {paths[column].name: journal.mark() for column, journal in journals.items()}
                state[name] = done
                resume.save(sum(value for value in state.values() if isinstance(value, int)), state)  # only grows
            if stop:
                sys.exit(STOPPED)
    return {
        column: np.memmap(path, shapes[column][1], "r", shape=(len(rows), *shapes[column][0]))
        for column, path in paths.items()
    }


def _num_bytes(shapes: Mapping[str, Shape], num_rows: int) -> int:
    return num_rows * sum(math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in shapes.values())


def source(rows: Rows, folder: Path, name: str, share: float = 1.0) -> Source:
    """A source of batches whose extra columns are those of `folder`/`name`.arrow, row by row.

    Raises files.CorruptError if the file differs from what the folder's manifest says.
    """
    files.verify_manifest(folder, only=[f"{name}.arrow"])
    extras, _ = read_columns(folder / f"{name}.arrow")
    assert all(len(values) == len(rows) for values in extras.values()), f"{folder} belongs to other rows"
    return Source(rows, share, extras)
