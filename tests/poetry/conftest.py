"""The real package, fetched once, and a part of it that is quickly read."""

from pathlib import Path

import pytest

from minimind.poetry import anthology
from minimind.poetry.anthology import Anthology
from minimind.sources import npm
from minimind.sources.poetry import INTEGRITY, PACKAGE

EVERY = 8  # of the package's 313 files of poems one in so many is read


@pytest.fixture(scope="session")
def part(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_ROOT", str(tmp_path_factory.mktemp("downloads")))
        package = npm.package(PACKAGE, INTEGRITY)
    folder = tmp_path_factory.mktemp("part")
    poems = sorted(package.glob(anthology.POEMS))
    assert len(poems) == 313
    for path in [*poems[::EVERY], *package.glob(anthology.FAMOUS)]:
        link = folder / path.relative_to(package)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    return folder


@pytest.fixture(scope="session")
def poems(part: Path) -> Anthology:
    return anthology.read(part)
