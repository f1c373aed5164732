"""Tasks on workers: in order, whoever does them, and done again where a worker dies."""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from minimind import corpus, pool, shards
from minimind.config import Runtime
from minimind.errors import UserError
from minimind.packing import PackConfig, pack
from minimind.pool import Local, PoolError, Ray


def texts(folder: Path) -> Path:
    """A data set for pretraining."""
    (folder / "pretrain").mkdir(parents=True)
    lines = [json.dumps({"text": f"Paris {number} 巴黎"}) + "\n" for number in range(400)]
    (folder / "pretrain" / "0.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder / "pretrain"


def square(number: int) -> tuple[int, int]:
    return number * number, os.getpid()


def die_once(task: tuple[int, Path]) -> int:
    """SIGKILL to the worker, as by the kernel when memory is short, until the file is there."""
    number, flag = task
    if number == 3 and not flag.exists():
        flag.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def die(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def refuse(number: int) -> int:
    raise UserError(f"not {number}")


def test_results_come_in_the_order_of_the_tasks_from_other_processes() -> None:
    with Local(2) as local:
        results = list(local.run(square, range(20)))
        assert [result for result, _ in results] == [number * number for number in range(20)]
        assert os.getpid() not in {worker for _, worker in results}
        assert len(list(local.run(square, range(3)))) == 3  # the same workers, again


def test_one_worker_or_one_task_needs_no_process() -> None:
    assert {worker for _, worker in Local(1).run(square, range(3))} == {os.getpid()}
    assert {worker for _, worker in Local(2).run(square, [3])} == {os.getpid()}


def test_what_a_dead_worker_left_is_done_again(tmp_path: Path) -> None:
    flag = tmp_path / "died"
    with Local(2) as local:
        assert list(local.run(die_once, [(number, flag) for number in range(8)])) == list(range(8))
    assert flag.exists()


def begin(task: tuple[int, Path]) -> int:
    number, folder = task
    (folder / str(number)).touch()
    return number


def test_no_more_is_begun_than_is_soon_taken(tmp_path: Path) -> None:
    with Local(2) as local:
        results = local.run(begin, [(number, tmp_path) for number in range(100)])
        assert next(results) == 0
        most = 1 + 2 * pool.AHEAD
        while len(list(tmp_path.iterdir())) < most:
            time.sleep(0.01)
        time.sleep(0.2)
        assert len(list(tmp_path.iterdir())) == most
        assert list(results) == list(range(1, 100))


def test_a_task_that_always_kills_its_worker_is_named() -> None:
    with Local(2) as local, pytest.raises(PoolError, match=r"died 4 times over 5: .*runtime\.workers"):
        list(local.run(die, [5, 5]))


def test_a_mistake_of_the_user_arrives_as_such() -> None:
    with Local(2) as local, pytest.raises(UserError, match="not 0"):
        list(local.run(refuse, range(2)))


def test_without_ray_the_command_to_install_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(PoolError, match=r"pip install '\.\[ray\]'"):
        pool.choose(Runtime(data_engine="ray"))


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Two nodes with a worker each, as far as Ray can tell."""
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    nodes.add_node(num_cpus=1)
    yield nodes.address
    nodes.shutdown()


@pytest.fixture
def ray_engine(cluster: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ray]:
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    with pool.choose(Runtime(data_engine="ray")) as engine:
        assert isinstance(engine, Ray)
        assert len([node for node in engine.ray.nodes() if node["Alive"]]) == 2
        yield engine


def test_two_nodes_pack_the_same_bytes_and_a_dead_worker_is_replaced(
    ray_engine: Ray, tmp_path: Path, tokenizer_folder: Path
) -> None:
    # Workers can't import the tests, so what they run is sent by value.
    raw = texts(tmp_path)
    recipe = shards.Recipe(tokenizer_folder, 64, 0.1, 0.0)
    died, path = str(tmp_path / "died"), raw / "0.jsonl"

    def tasks(folder: Path) -> list[tuple[shards.Shard, float]]:
        folder.mkdir()
        ends = [*range(0, path.stat().st_size, 2000), path.stat().st_size]
        return [
            (shards.Shard(path, start, end, folder, recipe), 1.0) for start, end in zip(ends, ends[1:], strict=False)
        ]

    def pack_or_die(task: object) -> tuple[str, str]:
        import os
        import signal
        from pathlib import Path

        import ray

        from minimind.shards import pack_shard

        if task[0].start == 4000 and not Path(died).exists():  # type: ignore[index]
            Path(died).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return str(pack_shard(task)), ray.get_runtime_context().get_node_id()  # type: ignore[arg-type]

    here = list(Local(1).run(shards.pack_shard, tasks(tmp_path / "here")))
    there = list(ray_engine.run(pack_or_die, tasks(tmp_path / "there")))
    assert Path(died).exists() and len({node for _, node in there}) == 2
    assert [path.read_bytes() for path in here] == [Path(name).read_bytes() for name, _ in there]


def test_a_data_set_packed_by_ray_is_the_one_packed_here(
    ray_engine: Ray, tmp_path: Path, tokenizer_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus, "SHARD_BYTES", 3000)
    folders = []
    for name, engine in (("here", Local(1)), ("there", ray_engine)):
        raw, config = texts(tmp_path / name), PackConfig(64, 0.1, 0.0, 0.0)
        folders.append(raw.parent / "packed")
        pack(raw, tokenizer_folder, config, folders[-1], engine, raw.parent / "scratch", raw.parent / "kept.jsonl")
    assert (folders[0] / "manifest.json").read_bytes() == (folders[1] / "manifest.json").read_bytes()
