"""Several processes that train together: started here or by torchrun, each with its share of every batch.

Every process holds the whole model and sees the same batch; it takes its rows of it, and the gradients are added up
before the step. As losses are sums divided once by the weight of the whole batch, the number of processes changes the
result by rounding only. `zero.py` has the same face over DeepSpeed, which splits the optimizer's state as well.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from minimind import process
from minimind.config import Runtime, runtime
from minimind.errors import UserError

PATIENCE_SECONDS = 10.0  # for the others to end, once one process has
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
    try:
        processes = runtime().processes
    except UserError as error:
        sys.exit(f"{sys.argv[0]}: {error}")
    if processes > 1 and "WORLD_SIZE" not in os.environ:
        sys.exit(launch(processes))
    process.run(main)


def launch(processes: int) -> int:
    """Run this program `processes` times side by side, until all have ended; returns its exit status.

    Signals that ask to stop are passed on. If one process fails, the others are ended, and the message says which.
    """
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

    def pass_on(number: int, frame: object) -> None:
        for worker in workers:
            if worker.poll() is None:
                worker.send_signal(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, pass_on)
    failed: int | None = None
    deadline = 0.0
    while any(worker.poll() is None for worker in workers):
        if failed is None:
            failed = next((rank for rank, worker in enumerate(workers) if worker.returncode), None)
            deadline = time.monotonic() + PATIENCE_SECONDS
        elif time.monotonic() > deadline:
            for worker in workers:
                worker.kill()
        time.sleep(0.1)
    status = next((worker.returncode for worker in workers if worker.returncode), 0)
    if failed is not None and status != process.STOPPED:
        print(f"process {failed} of {processes} ended with status {workers[failed].returncode}, and so do the others",
              file=sys.stderr)  # fmt: skip
    return status if status >= 0 else 128 - status


def check(settings: Runtime, batch_size: int, world: World) -> None:
    """Raises UserError where a batch can't be shared out among the processes."""
    if batch_size < world.size:
        raise UserError(
            f"runtime.processes: {world.size} processes can't share a batch of {batch_size} rows: raise batch_size, "
            "or start fewer"
        )
    if settings.strategy == "single" and world.size > 1:
        raise UserError(f"runtime.strategy is single, but there are {world.size} processes: set it to ddp or deepspeed")
