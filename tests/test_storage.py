"""What the system refuses: one line that names the folder, nothing half-written, the last good state kept."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from minimind import files, storage
from minimind.storage import StorageError, explain

ROOT = Path(__file__).parents[1]
LIMIT = 1 << 20  # bytes of the file system, or of a file where none can be mounted

WRITERS = {
    "text": "files.write_text(out / 'value.txt', 'x' * 3_000_000)",
    "folder": (
        "with files.folder(out / 'deep') as partial:\n"
        "    for n in range(3): (partial / str(n)).write_bytes(b'x' * 600_000)\n"
        "    (partial / 'last').write_bytes(b'x' * 3_000_000)"
    ),
    "state": "resume_save()",
    "weights": "save_weights()",
    "shard": "shards._save(out / 'a.npz', {}, {'x': np.zeros(3_000_000, np.uint8)})",
    "rows": (
        "with files.folder(out / 'packed') as partial, RowWriter(partial / 'train.arrow', 1000, 100) as writer:\n"
        "    for n in range(2000): writer.add([(np.ones(1000), np.array([0] + [1] * 999), 999)])"
    ),
}
PROGRAM = """
import sys
from pathlib import Path
import numpy as np, torch
from minimind import files, process, shards
from minimind.resume import Resume
from minimind.rows import RowWriter
from safetensors.torch import save_file
out = Path("out")

def resume_save():
    resume = Resume("toy")
    resume.folder = out
    resume.save(1, {"small": torch.zeros(10)})
    resume.wait()
    try:
        resume.save(2, {"large": torch.zeros(750_000)})
        resume.wait()
    finally:
        assert resume.load()["small"].tolist() == [0.0] * 10

def save_weights():
    with files.folder(out / "model") as partial:
        save_file({"weight": torch.zeros(750_000)}, partial / "model.safetensors")

program, sys.argv = sys.argv[1], ["toy.py"]
try:
    process.run(lambda: exec(program, globals()))
finally:
    left = [str(path) for path in out.rglob("*") if "partial" in path.name]
    assert not left, left
"""


def limited(folder: Path, program: list[str]) -> subprocess.CompletedProcess[str]:
    """Run in `folder` with a full `folder`/out: a small tmpfs, or, where none can be mounted, a limit of a file."""
    (folder / "out").mkdir()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    mount = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"]), "sh", "-c"]
    script = f'mount -t tmpfs -o size={LIMIT} tmpfs out && exec "$@"'
    possible = (
        shutil.which("unshare")
        and not subprocess.run([*mount, script, "sh", "true"], cwd=folder, capture_output=True, check=False).returncode
    )
    before = [*mount, script] if possible else ["sh", "-c", 'ulimit -f 2048; exec "$@"']
    command = [*before, "sh", *program]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_ends_in_one_line_and_leaves_nothing_half_written(tmp_path: Path, writer: str) -> None:
    done = limited(tmp_path, [sys.executable, "-c", PROGRAM, WRITERS[writer]])
    lines = done.stderr.splitlines()
    assert done.returncode == 1 and len(lines) == 1, done.stderr
    assert lines[0].startswith("toy: out"), lines
    assert "bytes are wanted" in lines[0] and "are free" in lines[0]


def test_a_file_may_be_too_large_for_the_users_limit(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    program = f"import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, ({LIMIT}, {LIMIT}))\n{PROGRAM}"
    command = [sys.executable, "-c", program, WRITERS["text"]]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("toy: out: a file may have 1,048,576 bytes (ulimit -f): more than ")


def test_the_old_file_stays_where_a_new_one_does_not_fit(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a/value.txt", "old")
    told = f"^{tmp_path}/a: the disk is full: more than 3 bytes are wanted, [1-9]"
    with pytest.raises(StorageError, match=told), files.file(tmp_path / "a/value.txt") as partial:
        partial.write_text("new")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["value.txt"]
    assert (tmp_path / "a/value.txt").read_text() == "old"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, ""), "^out: the disk is full: 5 bytes are wanted, [0-9,]+ are free: make room, then"),
        (OSError(errno.EDQUOT, ""), "^out: the disk is full: 5 bytes"),
        (OSError(errno.EROFS, "", "out/a"), r"^out/a is on a read-only file system \([0-9,]+ are free there\)"),
        (PermissionError(errno.EACCES, "", "out/a"), "^out/a may not be written to, or read, by you"),
        (OSError(errno.EMFILE, "", "out/a"), r"^out: no more than [0-9,]+ files may be open \(ulimit -n\)"),
        (RuntimeError("SafetensorError: I/O error: No space left on device (os error 28)"), "^out: the disk is full"),
        (MemoryError("Unable to allocate 7.28 TiB for an array"), "^memory does not suffice: Unable to allocate 7.28"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4096 bytes."), "4096 bytes"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0"), "^memory does not suffice: 2.00 GiB"),
    ],
)
def test_each_refusal_has_its_line(error: Exception, told: str) -> None:
    line = explain(error, Path("out"), 5)
    assert line is not None and "\n" not in line
    with pytest.raises(StorageError, match=told), storage.guard(Path("out"), 5):
        raise error


@pytest.mark.parametrize("error", [FileNotFoundError(errno.ENOENT, ""), RuntimeError("shape"), KeyError("x")])
def test_other_errors_stay_what_they_are(error: Exception) -> None:
    assert explain(error, Path("out")) is None
    with pytest.raises(type(error)), storage.guard(Path("out")):
        raise error
