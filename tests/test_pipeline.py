"""The whole pipeline, with the profile `smoke`, by DVC, in a clone of its own.

Killed and taken up again it ends in the same bytes as when it runs through; a second run finds nothing to do; one
changed number reruns what depends on it and nothing else.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from minimind import files

ROOT = Path(__file__).parents[1]
FOLLOW_SFT = ["sft", "reference", "dpo", "teacher", "distill", "report"] + [
    f"evaluate@{checkpoint}" for checkpoint in ("sft", "dpo", "distill", "control")
]
# What stages say at their ends where no terminal is.
PROGRESS = (
    r"sft: 200 of 200 steps \(100%\), loss .*, .* tokens/s", r"dpo: 20 of 20 steps \(100%\), loss .*, .* tokens/s",
    r"control: 20 of 20 steps \(100%\), loss .*, .* tokens/s", r"answers: 60 of 60 prompts \(100%\), .* prompts/s",
    r"train: (\d+) of \1 rows \(100%\), .* rows/s",
)  # fmt: skip
PATIENCE = 1800  # seconds after which a command counts as hung, on however busy a machine


class Clone:
    """A copy of the repository as it is now, uncommitted changes included, with `smoke` as its params."""

    def __init__(self, root: Path):
        self.root = root
        command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for name in filter(None, listing.split("\0")):
            if (ROOT / name).is_file():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, root / name)
        (root / "dvc.lock").unlink(missing_ok=True)
        smoke = (root / "profiles/smoke.yaml").read_text(encoding="utf-8")
        # Long enough that a stage whose dvc is gone notices, which may take it half a second, before it is done.
        longer, replaced = re.subn(r"(\nsft:\n(?:  .*\n)*?  steps: )\d+", r"\g<1>200", smoke)
        assert replaced == 1
        (root / "params.yaml").write_text(longer, encoding="utf-8")
        # What DVC and the tests themselves tell the stages of must not leak in.
        outer = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "GIT_", "MLFLOW_"))}
        identity = {
            f"GIT_{role}_{key}": value
            for role in ("AUTHOR", "COMMITTER")
            for key, value in (("NAME", "tester"), ("EMAIL", "tester@example.com"))
        }
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = {**outer, **identity, "PATH": path, "DVC_NO_ANALYTICS": "1"}
        self.git("init", "--quiet")
        self.commit("start")

    def git(self, *arguments: str) -> str:
        command = ["git", *arguments]
        result = subprocess.run(
            command, cwd=self.root, env=self.environment, capture_output=True, text=True, check=True
        )  # fmt: skip
        return result.stdout

    def commit(self, message: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Begin a dvc command in a process group of its own."""
        command = [sys.executable, "-m", "dvc", *arguments]
        return subprocess.Popen(
            command, cwd=self.root, env=self.environment, start_new_session=True, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def dvc(self, *arguments: str) -> str:
        """Run a dvc command to its end; return what it printed."""
        process = self.start(*arguments)
        output, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, output
        return output

    def wait_for_state(self, stage: str) -> None:
        """Return as soon as a training of `stage` has saved its first state."""
        deadline = time.monotonic() + PATIENCE
        while not list((self.root / ".resume" / stage).glob("**/*.pt")):
            assert time.monotonic() < deadline, f"{stage} never saved a state"
            time.sleep(0.002)

    def leave_mlflow_out(self) -> None:
        """As if it were not installed. Stages go on without it; importing it takes longer than many of them work."""
        folder = self.root.with_name(f"{self.root.name}-without-mlflow")
        folder.mkdir()
        (folder / "mlflow.py").write_text("raise ImportError('left out by the test')\n", encoding="utf-8")
        known = [str(folder), *filter(None, [self.environment.get("PYTHONPATH")])]
        self.environment["PYTHONPATH"] = os.pathsep.join(known)

    @property
    def lock(self) -> str:
        return (self.root / "dvc.lock").read_text(encoding="utf-8")


def ran(output: str) -> list[str]:
    """The stages that dvc says it ran."""
    return re.findall(r"Running stage '(.+)':", output)


def kill_group(process: "subprocess.Popen[str]") -> None:
    """All at once and without warning, as when the machine goes down."""
    os.killpg(process.pid, signal.SIGKILL)


def terminate_dvc(process: "subprocess.Popen[str]") -> None:
    """Only dvc: the stage must notice by itself."""
    process.terminate()


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    return Clone(tmp_path_factory.mktemp("clone"))


# The tests below are chapters of one story: each takes up the clone as the one before left it.


@pytest.mark.parametrize(("stage", "kill"), [("pretrain", kill_group), ("sft", terminate_dvc)])
def test_a_killed_stage_has_written_nothing_but_its_state(
    clone: Clone, stage: str, kill: Callable[["subprocess.Popen[str]"], None]
) -> None:
    process = clone.start("repro")
    clone.wait_for_state(stage)
    kill(process)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode != 0, output
    assert not (clone.root / "models" / stage).exists()
    assert not (clone.root / "metrics" / f"{stage}.json").exists()


def test_taken_up_again_it_runs_through(clone: Clone) -> None:
    output = clone.dvc("repro")
    assert ran(output)[0] == "sft", "what was finished is not run again"
    assert re.search(r"sft: continuing from step [1-9]", output), "what was trained is not trained again"
    for line in PROGRESS:
        assert re.search(f"^{line}, after ", output, re.MULTILINE), line
    assert (clone.root / "metrics/report.html").stat().st_size > 0
    # The profile smoke adapts the SFT model by LoRA in its DPO.
    assert (clone.root / "models/dpo/adapter/adapter_config.json").exists()
    assert not (clone.root / "models/sft/adapter").exists()
    clone.commit("first run")


def test_a_second_run_finds_nothing_to_do(clone: Clone) -> None:
    output = clone.dvc("repro")
    assert ran(output) == []
    assert "up to date" in output
    assert clone.git("status", "--porcelain") == "", "a run leaves nothing behind that git would want to know of"


def test_run_through_from_the_start_it_ends_in_the_same_bytes(clone: Clone) -> None:
    before = clone.lock
    clone.leave_mlflow_out()  # what nothing depends on
    output = clone.dvc("repro", "--force")
    assert "pretrain" in ran(output)
    assert "MLflow doesn't take what pretrain logs" in output
    assert clone.lock == before
    assert clone.git("status", "--porcelain") == ""


def test_one_changed_number_reruns_what_depends_on_it(clone: Clone) -> None:
    output = clone.dvc("exp", "run", "--set-param", "sft.learning_rate=0.0015")
    assert sorted(ran(output)) == sorted(FOLLOW_SFT), output
    difference = clone.dvc("params", "diff")
    assert re.search(r"sft\.learning_rate\s+\S+\s+0\.0015", difference), difference
    assert "metrics/sft.json" in clone.dvc("metrics", "diff")
    assert "metrics/scores/dpo.json" in clone.dvc("metrics", "show")
    assert "Validation" in clone.dvc("plots", "show", "--json")


def template(folder: Path) -> str:
    """The chat template in a tokenizer's folder."""
    return str(files.read_json(folder / "tokenizer_config.json")["chat_template"])


def test_another_model_may_be_the_base(clone: Clone) -> None:
    clone.git("checkout", "--", ".")
    clone.dvc("checkout", "--force")
    model, own = clone.root / "models/pretrain", files.sha256(clone.root / "data/tokenizer/tokenizer.json")
    base = clone.root / "data/base/model"
    params = clone.root / "params.yaml"
    text = params.read_text(encoding="utf-8").replace("\nbase: false", "\nbase: true")
    params.write_text(re.sub(r"(\npretrain:\n(?:  .*\n)*?  steps: )\d+", r"\g<1>0", text), encoding="utf-8")

    process = clone.start("repro", "tokenizer")
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode != 0 and "minimind import SOURCE data/base/model" in output

    shutil.copytree(model, base)
    own_template = template(base)
    foreign = "{% for message in messages %}{{ '<|im_start|>' + message.content + '<|im_end|>' }}{% endfor %}"
    described = files.read_json(base / "tokenizer_config.json")
    files.write_json(base / "tokenizer_config.json", described | {"chat_template": foreign})
    files.write_manifest(base, {key: files.read_manifest(base)[key] for key in ("model", "lineage")})
    trained = files.sha256(model / "model.safetensors")
    assert ran(clone.dvc("repro", "pretrain")) == ["tokenizer", "pretrain"]  # rows of equal tokens stay
    assert files.sha256(clone.root / "data/tokenizer/tokenizer.json") == own
    assert files.sha256(model / "model.safetensors") == trained, "without a step it is the base"
    lineage = files.read_manifest(model)["lineage"]
    assert lineage["inputs"]["parent"] == files.sha256(base / files.MANIFEST)
    assert (clone.root / "metrics/curves/pretrain.tsv").read_text(encoding="utf-8").startswith("step\ttokens\tvalid")

    clone.dvc("exp", "run", "--set-param", "sft.steps=0", "--set-param", "dpo.steps=0", "distill")
    assert files.sha256(clone.root / "models/dpo/model.safetensors") == trained, "the teacher is the base itself"
    # What takes no step speaks as the base does, and a student as its teacher.
    for name in ("pretrain", "sft", "dpo", "distill", "control"):
        assert template(clone.root / "models" / name) == foreign
    assert template(clone.root / "data/tokenizer") == own_template
    clone.dvc("exp", "run", "--set-param", "pretrain.steps=2", "--set-param", "pretrain.warmup_steps=0", "pretrain")
    assert template(model) == own_template
    assert files.sha256(model / "model.safetensors") != trained
