"""The rules that keep the house in order: floors, no circles, thin stages, names, no trace of one machine."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from minimind import declarations

ROOT = Path(__file__).parents[1]
SOURCES = sorted([*ROOT.glob("minimind/**/*.py"), *ROOT.glob("stages/*.py")])
BENCHMARKS = sorted(ROOT.glob("benchmarks/*.py"))  # above all floors: they import anything, and nothing imports them

# A module imports from floors below its own only. A folder stands on one floor and may import within itself.
FLOORS = (
    {"alphabet", "amounts", "capability", "determinism", "errors", "limits", "lossless", "machine", "random"},
    {"comparison", "deadline", "experts", "families", "journal", "loads", "messages", "native", "outbox", "pointless",
     "progress", "sandbox", "storage", "turns", "verse"},
    {"kernels", "specification", "store"},
    {"answers", "atlas", "config", "declarations", "encoding", "files", "losses", "mixture", "model", "modeling",
     "optim", "plots", "poetry", "process", "samples", "schedule", "statistics", "style", "template", "tokenizer",
     "tracking", "verify"},
    {"card", "foreign"},
    {"chat", "checkpoint", "distributed", "freshness", "generate", "hardware", "memory", "pool", "provenance",
     "resume", "rows", "scratch"},
    {"batches", "benchmark", "corpus", "fitting", "intake", "report"},
    {"cleaning", "columns", "engines", "export", "markdown", "objectives", "prompts", "score", "shards"},
    {"heldout", "inference", "page", "sources"},
    {"packing", "probe", "talk", "teacher", "train"},
    {"lora", "speed"},
    {"dashboard", "doctor", "estimate", "prices", "recipes"},
    {"preflight"},
    {"cli"},
)  # fmt: skip

# Tests of something other than one module.
GUARDS = {
    "test_house", "test_dvc", "test_exactness", "test_guides", "test_interchange", "test_portability", "test_presets",
    "test_parts", "test_profiles", "test_pipeline",
}  # fmt: skip

THIN = 60  # lines of a stage


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def unit(path: Path) -> str:
    """The module of minimind/, or the folder in it, that a file belongs to."""
    return path.relative_to(ROOT / "minimind").parts[0].removesuffix(".py")


def floor(path: Path) -> int:
    return next(number for number, units in enumerate(FLOORS, 1) if unit(path) in units)


def modules() -> list[Path]:
    return [path for path in SOURCES if name(path).startswith("minimind/") and path.name != "__init__.py"]


def imports(path: Path) -> set[Path]:
    return {other for other in declarations.imports(path, ROOT) if other.name != "__init__.py"}


def tracked() -> Iterator[tuple[str, str]]:
    """Name and text of every text file that git tracks, or would."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    for entry in sorted(set(listing.stdout.split("\0")) - {""}):
        path = ROOT / entry
        if path.is_file() and b"\0" not in (content := path.read_bytes()):
            yield entry, content.decode("utf-8")


def test_every_module_has_exactly_one_floor() -> None:
    units = [member for units in FLOORS for member in units]
    assert sorted(units) == sorted({unit(path) for path in modules()})


@pytest.mark.parametrize("path", modules(), ids=name)
def test_a_module_imports_from_floors_below_only(path: Path) -> None:
    for other in imports(path):
        assert name(other).startswith("minimind/"), f"{name(path)} imports {name(other)}"
        if unit(other) != unit(path):
            assert floor(other) < floor(path), f"{name(path)} (floor {floor(path)}) imports {name(other)}"


def test_there_are_no_circles() -> None:
    rest = {path: imports(path) for path in SOURCES}
    while ready := {path for path, others in rest.items() if not others & rest.keys()}:
        for path in ready:
            del rest[path]
    assert not rest, f"a circle among {', '.join(sorted(map(name, rest)))}"


@pytest.mark.parametrize("path", sorted(ROOT.glob("stages/*.py")), ids=name)
def test_a_stage_is_thin_and_imports_no_other(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= THIN
    assert not [name(other) for other in imports(path) if name(other).startswith("stages/")]


def test_init_files_are_empty_or_lazy() -> None:
    """What else stands in one would be a dependency of every stage that imports anything beside it."""
    folders = {path.parent for path in SOURCES}
    inits = [path for path in SOURCES if path.name == "__init__.py"]
    assert {path.parent for path in inits} == folders
    assert [name(path) for path in inits if path.stat().st_size and not declarations.is_lazy(path)] == []


def test_no_stage_imports_what_only_python_users_need() -> None:
    """Asked of Python itself, beside the syntax tree: `from minimind import Model` costs the stages nothing."""
    program = "import sys, stages.{0}; print([name for name in sys.modules if name.startswith('minimind.inference')])"
    for path in (ROOT / "stages" / "evaluate.py", ROOT / "stages" / "fetch.py"):
        command = [sys.executable, "-c", program.format(path.stem)]
        assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout == "[]\n"
        assert not [file for file in declarations.closure(path, ROOT) if file.startswith("minimind/inference")]


def test_no_name_says_nothing() -> None:
    vague = re.compile(r"(^|_)(utils?|common|helpers?|misc|managers?|base)(_|$)")
    assert [name(path) for path in [*SOURCES, *BENCHMARKS] if vague.search(path.stem)] == []


def test_nothing_imports_a_benchmark() -> None:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(module.split(".")[0] == "benchmarks" for module in modules), name(path)


def test_first_party_imports_are_visible_in_the_syntax_tree() -> None:
    """The dependencies in dvc.yaml are read off it."""
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"import_module|__import__|^\s*from \.", text, re.MULTILINE), name(path)


def test_tests_mirror_the_modules() -> None:
    mirrored = {path.relative_to(ROOT / "minimind").with_suffix("") for path in modules()}
    mirrored |= {Path(path.stem) for path in ROOT.glob("stages/*.py")}
    mirrored |= {Path(f"benchmark_{path.stem}") for path in BENCHMARKS}
    tests = {path.relative_to(ROOT / "tests") for path in ROOT.glob("tests/**/test_*.py")}
    strangers = {path for path in tests if path.with_name(path.stem.removeprefix("test_")) not in mirrored}
    assert {path.stem for path in strangers} <= GUARDS


@pytest.mark.parametrize("path", [*modules(), *(path for path in BENCHMARKS if path.name != "__init__.py")], ids=name)
def test_a_module_says_what_it_is_and_what_its_functions_do(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), "the module has no docstring"
    public = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_"]
    assert [node.name for node in public if not ast.get_docstring(node)] == []


def test_every_package_that_is_imported_is_declared() -> None:
    """In pyproject.toml, by name: what comes along with another package may leave with it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    development = extras.pop("dev")
    requirements = {
        False: [*project["dependencies"], *(line for group in extras.values() for line in group)],
        True: [*project["dependencies"], *development],
    }
    declared = {
        tests: {re.match(r"[\w.-]+", line)[0].lower().replace("_", "-") for line in lines}  # type: ignore[index]
        for tests, lines in requirements.items()
    }
    distributions = metadata.packages_distributions()
    for path in [*SOURCES, *BENCHMARKS, *ROOT.glob("tests/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for package in {member.partition(".")[0] for member in names}:
                if (
                    package in sys.stdlib_module_names
                    or package in (*declarations.PACKAGES, "benchmarks")
                    or (ROOT / "tests" / package).exists()
                ):
                    continue
                owners = {owner.lower().replace("_", "-") for owner in distributions[package]}
                assert owners & declared[path not in SOURCES], f"{name(path)} imports {package}"


def test_nothing_names_this_machine() -> None:
    """No absolute path of a user or a machine, and no package index or mirror, in any tracked file."""
    path = re.compile(r"(?<![\w.:/$}])/(home|root|Users|work|farm|mnt|opt|srv)/\w")
    index = re.compile(r"--(extra-)?index-url|--find-links|--trusted-host|pypi\.|/simple\b|\+cpu\b", re.IGNORECASE)
    for entry, text in tracked():
        if entry in ("tests/test_house.py", "Makefile"):  # they name what they forbid or leave out
            continue
        for number, line in enumerate(text.splitlines(), 1):
            assert not path.search(line), f"{entry}:{number}: {line.strip()}"
            assert not index.search(line), f"{entry}:{number}: {line.strip()}"
