"""C files of this package, compiled for this machine at first use."""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from minimind import capability

FLAGS = ("-O3", "-fopenmp", "-shared", "-fPIC")


def library(source: Path, *flags: str) -> ctypes.CDLL | None:
    """The C file as a library, built for what `capability.isa` allows with FLAGS and `flags` by `$CC` or cc.

    It is kept in the user's cache, under a name that changes with the text, the compiler and the processor. None
    where that can't be done: without a compiler in silence, for any other reason with a line on stderr.
    """
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if sys.platform == "win32" or compiler is None:
        return None
    flags = (*FLAGS, capability.march(), *flags)
    # What -march=native means, and what the compiler makes of it, is a matter of the machine.
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False).stdout
    identity = "\n".join([source.read_text(encoding="utf-8"), *flags, version, _processor()])
    folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "minimind"
    built = folder / f"{source.stem}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.so"
    try:
        if built.exists():
            return ctypes.CDLL(str(built))
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as partial:
            fresh = Path(partial) / built.name
            command = [compiler, *flags, str(source), "-o", str(fresh), "-lm"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                fresh.rename(built)
                return ctypes.CDLL(str(built))
        why = done.stderr[:500]
    except OSError as error:  # no room, no right to write there, a folder from which nothing may be run
        why = f"{error}; set XDG_CACHE_HOME to a folder that can be written to"
    print(f"{source.name} can't be compiled, plain PyTorch does the same more slowly: {why}", file=sys.stderr)
    return None


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else [platform.processor()]
    return next((line for line in lines if line.startswith(("flags", "Features"))), lines[0])
