"""Several processes that train together: started here or by torchrun, each with its share of every batch.

Every process sees the same batch and takes its rows of it, and the gradients are added up before the step. As losses
are sums divided once by the weight of the whole batch, the number of processes changes the result by rounding only.
What a process holds of the model is the engine's matter (`engines/`).
"""

import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from minimind import process
from minimind.config import Runtime, runtime
from minimind.errors import UserError

LOOK_SECONDS = 0.02  # between looks at the processes
PATIENCE_SECONDS = 10.0  # for the others to end, once one process has
LOST = 75  # exit status of a process that has lost another one
TIMEOUT = timedelta(minutes=30)  # of a collective: the longest that one process may be alone at work


@dataclass(frozen=True)
class World:
    """This process among those that train together."""

    rank: int = 0
    size: int = 1

    @property
    def main(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def rows(self, batch_size: int) -> slice:
        """The rows of a batch that are this process's; the first processes take one more where it doesn't divide."""
        share, more = divmod(batch_size, self.size)
        start = self.rank * share + min(self.rank, more)
        return slice(start, start + share + (self.rank < more))

    def add(self, *tensors: Tensor) -> None:
        """Replace tensors of one dtype by their sums over all processes: one message for all of them."""
        if self.size > 1:
            message = torch.cat([tensor.reshape(-1) for tensor in tensors])
            dist.all_reduce(message)
            for tensor, total in zip(tensors, message.split([t.numel() for t in tensors]), strict=True):
                tensor.copy_(total.view_as(tensor))

    def share(self, value: Any) -> Any:
        """What the main process passes in, for all."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def wait(self) -> None:
        """Until every process is here."""
        if self.size > 1:
            dist.barrier()


def join(device: torch.device) -> World:
    """Meet the other processes that the environment names (RANK, WORLD_SIZE, …, as torchrun sets them)."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return World()
    if not dist.is_initialized():
        own = {"device_id": device} if device.type == "cuda" else {}
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT, **own)  # type: ignore[arg-type]
    return World(dist.get_rank(), size)


def leave() -> None:
    """Part from the other processes."""
    if dist.is_initialized():
        dist.destroy_process_group()


def run(main: Callable[..., None]) -> None:
    """`process.run` for a stage that trains: in `runtime.processes` processes, unless torchrun has started several."""
    if "WORLD_SIZE" not in os.environ:
        try:
            settings = runtime()
            if settings.processes > 1:
                check(settings, settings.processes, World(0, settings.processes))
        except UserError as error:
            sys.exit(f"{Path(sys.argv[0]).stem}: {error}")
        if settings.processes > 1:
            sys.exit(launch(settings.processes))
    try:
        process.run(main)
    except RuntimeError as error:  # gloo's and NCCL's errors have no type of their own in common
        if not dist.is_initialized() or "by peer" not in str(error):
            raise
        print(f"process {dist.get_rank()} has lost the connection to another process: {error}", file=sys.stderr)
        sys.exit(LOST)
    leave()


def launch(processes: int) -> int:
    """Run this program `processes` times side by side, until all have ended; returns its exit status.

    Signals that ask to stop are passed on. If one process fails, the others are ended, and the message says which.
    """
    asked: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: asked.append(number))
    process.follow_parent()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(processes), process.WORKER: "1",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes))),
    }  # fmt: skip
    specification = sys.modules["__main__"].__spec__
    program = ["-m", specification.name] if specification is not None else [sys.argv[0]]
    workers = [
        subprocess.Popen(
            [sys.executable, *program, *sys.argv[1:]],
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(processes)
    ]
    failed: int | None = None
    stopping, stopped, deadline = False, False, math.inf
    while True:
        statuses = [worker.poll() for worker in workers]
        bad = [rank for rank, status in enumerate(statuses) if status not in (None, 0, process.STOPPED)]
        if bad:
            deadline = min(deadline, time.monotonic() + PATIENCE_SECONDS)
        # Who lost its connection ended because of another, whose end may be seen after its own.
        over = None not in statuses or time.monotonic() > deadline
        causes = [rank for rank in bad if statuses[rank] != LOST] or (bad if over else [])
        if failed is None and causes:
            failed = causes[0]
            # One that is asked to stop before it listens is ended by the signal itself.
            stopped = stopping and statuses[failed] in (-signal.SIGINT, -signal.SIGTERM)
            if not stopped:
                print(f"process {failed} of {processes} has ended with status {statuses[failed]}, and without it the "
                      "others end as well", file=sys.stderr)  # fmt: skip
        ended = [status for status in statuses if status is not None]
        if len(ended) == processes:
            break
        while asked:
            stopping, request = True, asked.pop()
            for worker in workers:
                worker.send_signal(request)
        if time.monotonic() > deadline:
            for worker in workers:
                worker.kill()
        time.sleep(LOOK_SECONDS)
    if failed is None:
        return max(ended)
    status = process.STOPPED if stopped else ended[failed]
    return status if status >= 0 else 128 - status


def check(settings: Runtime, batch_size: int, world: World) -> None:
    """Raises UserError where the processes can't do what the section `runtime` says, or share out a batch."""
    if sys.platform == "win32" and world.size > 1:
        raise UserError(
            f"there are {world.size} processes: Windows trains in one, so set runtime.processes to 1, or use WSL"
        )
    if settings.strategy == "single" and world.size > 1:
        raise UserError(f"runtime.strategy is single, but there are {world.size} processes: set it to ddp or deepspeed")
    if settings.offload and (settings.strategy != "deepspeed" or settings.zero_stage == 0):
        raise UserError("runtime.offload is true: it takes runtime.strategy deepspeed and a zero_stage above 0")
    if batch_size < world.size:
        raise UserError(
            f"runtime.processes: {world.size} processes can't share a batch of {batch_size} rows: raise batch_size, "
            "or start fewer"
        )
