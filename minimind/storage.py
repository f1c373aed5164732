"""What the system refuses, in one line: a full disk, a folder that can't be written to, limits of files and memory."""

import errno
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from minimind.errors import UserError

FULL, FORBIDDEN = (errno.ENOSPC, errno.EDQUOT), (errno.EROFS, errno.EACCES, errno.EPERM)
OPEN_FILES = (errno.EMFILE, errno.ENFILE)
# As libraries in Rust and C++ tell it.
_OS_ERROR = re.compile(r"\(os error (\d+)\)|\bcode: (\d+)")
_ALLOCATION = re.compile(r"[Tt]ried to allocate ([\d.,]+ ?\w+)")
AGAIN = "then run the same command again: what was there before is untouched"


class StorageError(UserError):
    """What can't be written, or memory that won't suffice; the message names the place, what is wanted and free."""


@contextmanager
def guard(folder: Path, wanted: int = 0) -> Iterator[None]:
    """Turn the system's refusal to write into `folder` into a StorageError; `wanted`: bytes, as far as is known."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if (told := explain(error, folder, wanted)) is None:
            raise
        raise StorageError(told) from error


def explain(error: Exception, folder: Path, wanted: int = 0, at_least: bool = False) -> str | None:
    """One line about what the system refused in `folder`; None if `error` is of another kind."""
    number = _number(error)
    place = _place(error, folder)
    if number in FULL:
        return f"{place}: the disk is full: {_wanted(wanted, at_least)}, {_free(place)} are free: make room, {AGAIN}"
    if number == errno.EFBIG:
        limit = _limit("RLIMIT_FSIZE")
        return (
            f"{place}: a file may have {limit} (ulimit -f): {_wanted(wanted, at_least)}, {_free(place)} are free on "
            f"the disk: raise the limit, {AGAIN}"
        )
    if number in FORBIDDEN:
        named = getattr(error, "filename", None) or folder
        reason = "is on a read-only file system" if number == errno.EROFS else "may not be written to, or read, by you"
        return f"{named} {reason} ({_free(place)} are free there): change its mode or its owner, {AGAIN}"
    if number in OPEN_FILES:
        return (
            f"{place}: no more than {_limit('RLIMIT_NOFILE')} files may be open (ulimit -n): raise the limit, {AGAIN}"
        )
    allocation = _ALLOCATION.search(str(error))
    if number == errno.ENOMEM or isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and allocation):
        said = " ".join(str(error).split())
        asked = f"{allocation[1]} were asked for at once" if allocation else said or "no more was given"
        import psutil  # which the checks of a bare card do without

        free = psutil.virtual_memory().available
        return (
            f"memory does not suffice: {asked}, {free:,} bytes are free: lower runtime.workers or "
            f"runtime.micro_batch_size, or end other programs, {AGAIN}"
        )
    return None


def size(path: Path) -> int:
    """Bytes of a file, or of all files below a folder; 0 where there is none."""
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size if path.is_file() else 0


def _number(error: Exception) -> int | None:
    if isinstance(error, OSError):
        return error.errno
    found = _OS_ERROR.search(str(error))
    return int(found[1] or found[2]) if found else None


def _place(error: Exception, folder: Path) -> Path:
    """The folder that a file was to be made in, if the error names it and it is none that is just being filled."""
    name = getattr(error, "filename", None)
    if not isinstance(name, str) or ".partial" in name:
        return folder
    return Path(name) if Path(name).is_dir() else Path(name).parent


def _wanted(num_bytes: int, at_least: bool) -> str:
    if num_bytes == 0:
        return "more bytes are wanted"
    return f"{'more than ' if at_least else ''}{num_bytes:,} bytes are wanted"


def _free(place: Path) -> str:
    standing = next(path for path in (place, *place.absolute().parents) if path.exists())
    return f"{shutil.disk_usage(standing).free:,}"


def _limit(name: str) -> str:
    if sys.platform == "win32":  # which knows no such limits
        return "some"
    import resource

    limit = resource.getrlimit(getattr(resource, name))[0]
    return f"{limit:,}" + (" bytes" if name == "RLIMIT_FSIZE" else "")
