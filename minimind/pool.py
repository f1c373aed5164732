"""Runs a pure function over tasks: on the cores of this machine, or on a Ray cluster.

A task's result comes back small; what is large, the function leaves in a file. Results come in the order of the
tasks, whoever computes them, and a task whose worker dies is done again.
"""

import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import get_all_start_methods, get_context
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from minimind import process
from minimind.config import Runtime
from minimind.errors import UserError

RETRIES = 3  # times that a worker may die over one task
AHEAD = 4  # tasks for each worker whose results are under way or not taken yet

A = TypeVar("A")
R = TypeVar("R")


class PoolError(UserError):
    """Workers that don't start, or die again and again; the message says where and what to do."""


class Pool(Protocol):
    """What tasks are run on. A context manager: leaving it ends its workers."""

    def run(self, function: Callable[[A], R], tasks: Sequence[A]) -> Iterator[R]:
        """The results of a function of a module's top level, in order. Raises what it raises, and PoolError."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def choose(runtime: Runtime) -> Pool:
    """The pool of `runtime.data_engine`. Raises PoolError if it is not installed."""
    return Ray() if runtime.data_engine == "ray" else Local(runtime.workers or os.cpu_count() or 1)


class Local:
    """Processes of this machine, started when there is more than one task."""

    def __init__(self, workers: int):
        self.workers = workers
        self.executor: ProcessPoolExecutor | None = None

    def run(self, function: Callable[[A], R], tasks: Sequence[A]) -> Iterator[R]:
        if min(self.workers, len(tasks)) < 2:
            yield from map(function, tasks)
            return
        done = deaths = 0
        while done < len(tasks):
            try:
                for result in self._results(function, tasks[done:]):
                    yield result
                    done, deaths = done + 1, 0
            except BrokenProcessPool:  # one death ends the whole executor
                self._stop()
                deaths += 1
                if deaths > RETRIES:
                    raise PoolError(
                        f"workers died {deaths} times over {tasks[done]}: with too little memory, lower runtime.workers"
                    ) from None

    def _results(self, function: Callable[[A], R], tasks: Sequence[A]) -> Iterator[R]:
        """In order, no more of them ahead than AHEAD says, however slowly they are taken."""
        executor = self._start(function.__module__)
        begun = (executor.submit(function, task) for task in tasks)
        waiting = deque(islice(begun, AHEAD * self.workers))
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(islice(begun, 1))
            yield result

    def _start(self, module: str) -> ProcessPoolExecutor:
        if self.executor is None:
            # Not "fork": whoever has threads, as tokenizers and numpy may, can't be copied safely. The server has
            # imported the module once and has none. On Windows, which can't fork, every worker imports it.
            forks = "forkserver" in get_all_start_methods()
            context = get_context("forkserver" if forks else "spawn")
            if forks:
                context.set_forkserver_preload([module])
            self.executor = ProcessPoolExecutor(self.workers, context, _begin)
        return self.executor

    def _stop(self) -> None:
        if self.executor is not None:
            self.executor.shutdown(cancel_futures=True)
        self.executor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()


def _begin() -> None:
    """What a worker does first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends the workers
    os.environ["RAYON_NUM_THREADS"] = "1"  # every core has its process
    os.environ[process.WORKER] = "1"
    process.follow_parent()


class Ray:
    """A Ray cluster: that of RAY_ADDRESS, or else one that is started on this machine.

    Every node needs the task's files under the same paths; the code travels along.
    """

    def __init__(self) -> None:
        try:
            import ray
        except ImportError:
            raise PoolError(
                "runtime.data_engine is ray, which is not installed: `pip install '.[ray]'`, or local"
            ) from None
        self.ray: Any = ray
        self.started = False

    def run(self, function: Callable[[A], R], tasks: Sequence[A]) -> Iterator[R]:
        remote = self.ray.remote(num_cpus=1, max_retries=RETRIES)(function)
        try:
            for waiting in [remote.remote(task) for task in tasks]:
                yield self.ray.get(waiting)
        except (self.ray.exceptions.WorkerCrashedError, self.ray.exceptions.NodeDiedError) as error:
            raise PoolError(f"workers on the Ray cluster died {RETRIES + 1} times over one task: {error}") from None

    def __enter__(self) -> Self:
        if not self.ray.is_initialized():
            package = str(Path(__file__).parent)
            environment = {"py_modules": [package], "env_vars": {"RAYON_NUM_THREADS": "1"}}
            self.ray.init(runtime_env=environment, logging_level="warning", include_dashboard=False)
            self.started = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.started:
            self.ray.shutdown()
