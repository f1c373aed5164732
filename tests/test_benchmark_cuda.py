"""The one call for a card: at toy size on the CPU, with nothing of ours but what it may need, and how it reports."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import cuda
from benchmarks.agreement import AbsentError, DisagreementError, LeftOutError
from benchmarks.cuda import ABSENT, FAILED, LEFT_OUT, PASSED, Session
from benchmarks.throughput import OURS, QWEN

ROOT = Path(__file__).parents[1]

# Hides every third-party module but those that it needs, and what torch and pyarrow themselves need.
BARE = """
import importlib.machinery, importlib.metadata, re, runpy, sys
needed, queue = set(), ["torch", "numpy", "pyarrow", "safetensors"]
while queue:
    name = queue.pop()
    if name not in needed:
        needed.add(name)
        for line in importlib.metadata.requires(name) or []:
            if "extra ==" not in line:
                other = re.match(r"[\\w.-]+", line)[0].lower().replace("_", "-")
                try:
                    importlib.metadata.version(other)
                except importlib.metadata.PackageNotFoundError:
                    continue
                queue.append(other)
needed.add("tokenizers")
owners = importlib.metadata.packages_distributions()
allowed = {"minimind", "benchmarks"} | {
    module for module, names in owners.items() if needed & {name.lower().replace("_", "-") for name in names}
}
class Bare(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        top = name.partition(".")[0]
        return None if top in owners and top not in allowed else super().find_spec(name, path, target)
sys.meta_path[:] = [finder for finder in sys.meta_path if not hasattr(finder, "MAPPING")]  # of installed checkouts
sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = Bare
sys.argv = ["cuda", "--toy", "--device", "cpu", "--out", sys.argv[1]]
try:
    runpy.run_module("benchmarks.cuda", run_name="__main__")
finally:
    forbidden = {"dvc", "mlflow", "psutil", "ruamel", "tqdm", "transformers", "orjson"} & set(sys.modules)
    assert not forbidden, forbidden
"""


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    out = tmp_path_factory.mktemp("cuda") / "out"
    command = [sys.executable, "-c", BARE, str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, check=False), out


def test_it_needs_nothing_but_what_it_says(toy: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    done, out = toy
    assert done.returncode == 0, done.stderr
    found = json.loads((out / "cuda.json").read_text(encoding="utf-8"))
    states = {check["name"]: check["state"] for check in found["checks"]}
    assert FAILED not in states.values() and found["toy"] and found["seconds"] > 0
    for kind in ("dense", "MoE"):
        for dtype in ("float32", "bfloat16"):
            assert states[f"attention, logits and gradients: {kind}, {dtype}, masked"] == PASSED
            assert states[f"attention, logits and gradients: {kind}, {dtype}, variable-length"] == ABSENT
            assert states[f"log-likelihoods in a batch and alone: {kind}, {dtype}"] == PASSED
            assert states[f"greedy decoding with a cache and without: {kind}, {dtype}"] == PASSED
            for name in ("cross-entropy", "DPO", "distillation"):
                assert states[f"{name}, loss and gradients: {kind}, {dtype}"] == PASSED
        assert states[f"two runs end in the same bits: {kind}"] == PASSED
        assert states[f"a run that is taken up ends in the same bits: {kind}"] == PASSED
        assert states[f"two runs end in the same bits: {kind}, compiled"] == LEFT_OUT
        assert states[f"attention, logits and gradients: {kind}, bfloat16, variable-length, compiled"] == ABSENT
    assert {(side["size"], side["name"]) for side in found["sides"]} >= {
        (size, OURS) for size in ("26m", "64m", "104m", "MoE")
    }
    assert all(side["tokens_per_second"] > 0 and len(side["quartiles"]) == 2 for side in found["sides"])
    assert any(
        f"64m, {QWEN}: ModuleNotFoundError: No module named 'transformers'" in line for line in found["left_out"]
    )
    assert any("not deterministic: not on this device" in line for line in found["left_out"])
    assert [target["state"] for target in found["targets"]].count("reached") == 0


def test_what_it_prints_is_what_it_writes(toy: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    done, out = toy
    assert done.stdout.strip() == (out / "cuda.md").read_text(encoding="utf-8").strip()
    assert "| target | wanted | found | |" in done.stdout and "passed: " in done.stderr
    tables = [line for line in done.stdout.splitlines() if line.startswith("| 64m |")]
    assert tables and all(line.count("|") == 10 for line in tables)


def session(tmp_path: Path, seconds: float = float("inf")) -> Session:
    return Session(torch.device("cpu"), True, False, seconds, tmp_path)


def raising(error: BaseException) -> Callable[[], str]:
    def check() -> str:
        raise error

    return check


def forever() -> str:
    while True:
        pass


def test_a_failed_check_stops_nothing_and_is_reported(tmp_path: Path) -> None:
    one = session(tmp_path)
    checks = {
        "equal": lambda: "no difference",
        "unequal": raising(DisagreementError("1.0 of 0.1")),
        "broken": raising(RuntimeError("an operator | that isn't there\nand more")),
        "lacking": raising(AbsentError("it has none")),
        "not asked for": raising(LeftOutError("--compile on asks for it")),
    }
    one.section("checks", lambda end: one.check(checks.items(), end))
    assert [check["state"] for check in one.report.checks] == [PASSED, FAILED, FAILED, ABSENT, LEFT_OUT]
    assert one.report.checks[2]["detail"] == "RuntimeError: an operator ¦ that isn't there"
    assert one.report.failed()
    said = (tmp_path / "cuda.md").read_text(encoding="utf-8")
    assert "1 passed, 2 FAILED, 1 not on this device, 1 left out" in said


def test_what_does_not_fit_into_its_time_is_named(tmp_path: Path) -> None:
    one = session(tmp_path, 0.5)
    one.section("checks", lambda end: one.check([("endless", forever), ("another", forever)], end))
    assert [(check["name"], check["state"]) for check in one.report.checks] == [
        ("endless", LEFT_OUT), ("another", LEFT_OUT)
    ]  # fmt: skip
    one.section("104m", lambda end: [None for _ in iter(int, 1)] and None)
    assert one.report.left_out == ["104m: what was still to come when its time was over"]
    assert not one.report.failed()


def test_a_section_that_breaks_counts_as_failed(tmp_path: Path) -> None:
    one = session(tmp_path)
    one.section("64m", lambda end: raising(torch.OutOfMemoryError("no room"))() and None)  # type: ignore[func-returns-value]
    assert one.report.failed() and "no room" in one.report.checks[0]["detail"]


def test_the_exit_status_says_whether_a_check_failed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for state, status in ((PASSED, 0), (FAILED, 1), (ABSENT, 0), (LEFT_OUT, 0)):
        report = cuda.Report({"device": "cpu", "torch": "2.11"}, True)
        report.judge("something", state, "")
        monkeypatch.setattr(Session, "run", lambda self, report=report: report)
        with pytest.raises(SystemExit) as ended:
            cuda.main(["--toy", "--device", "cpu", "--out", str(tmp_path)])
        assert ended.value.code == status


def figures(size: str, rate: float, active: int) -> dict[str, Any]:
    return {"size": size, "name": OURS, "tokens_per_second": rate, "flops": 6.0 * active * rate}


def test_targets_are_judged_on_an_h100_only() -> None:
    report = cuda.Report({"device": "NVIDIA H100 80GB HBM3", "torch": "2.11"}, False)
    assert {target["state"] for target in cuda.targets(report)} == {"not measured"}
    report.peaks = {"measured": 7e14, "maker": 989e12}
    report.sides = [figures("64m", 1.2e6, 63_912_192), figures("MoE", 0.9e6, 63_936_768)]
    share, ratio, minutes = cuda.targets(report)
    assert share["found"] == pytest.approx(6 * 63_912_192 * 1.2e6 / 989e12) and share["state"] == "reached"
    assert ratio["found"] == pytest.approx(4 / 3) and ratio["state"] == "missed"
    assert minutes["found"] == pytest.approx(7.78, abs=0.01) and minutes["state"] == "reached"
    report.where["device"] = "NVIDIA A100-SXM4-80GB"
    assert all("it is for an H100" in target["state"] for target in cuda.targets(report))
