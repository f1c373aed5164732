"""What dvc.yaml has to say of a stage, worked out from the stage's code and command.

DVC reruns a stage when a dependency or a parameter that dvc.yaml lists has changed, and only then. So the lists
must hold everything: the script with all first-party modules that it imports, directly or not, every path that
the command names and the stage doesn't write, and every section of params.yaml that it reads.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

PACKAGES = ("minimind", "stages")

Stage = dict[str, Any]  # the body of a stage in dvc.yaml; of a template, what stands below `do`


def stages(text: str) -> dict[str, Stage]:
    """The stages of the dvc.yaml `text` by name."""
    return {name: body.get("do", body) for name, body in YAML(typ="safe").load(text)["stages"].items()}


def script(stage: Stage, root: Path) -> Path:
    """The script that the command `python -m stages.<name> <paths>` of a stage runs."""
    python, option, module, *_ = stage["cmd"].split()
    assert (python, option) == ("python", "-m"), f"not `python -m stages.<name> <paths>`: {stage['cmd']}"
    return root.joinpath(*module.split(".")).with_suffix(".py")


def arguments(stage: Stage) -> list[str]:
    """The paths on the command line of a stage."""
    return stage["cmd"].split()[3:]


def outputs(stage: Stage) -> list[str]:
    """The paths that a stage is declared to write: outs, metrics and plots."""
    entries = [entry for kind in ("outs", "metrics", "plots") for entry in stage.get(kind, [])]
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def dependencies(stage: Stage, root: Path) -> list[str]:
    """All that a stage reads: its code, then its data."""
    return closure(script(stage, root), root) + [path for path in arguments(stage) if path not in outputs(stage)]


def closure(script: Path, root: Path) -> list[str]:
    """`script` and every first-party file that it imports, directly or not, relative to `root` and sorted.

    Found in the syntax tree, so imports inside functions count. Empty files are left out. A file of C code beside a
    module, of the module's name, belongs to it.
    """
    found = {script}
    unread = [script]
    while unread:
        new = set(imports(unread.pop(), root)) - found
        found |= new
        unread.extend(new)
    native = {path.with_suffix(".c") for path in found if path.with_suffix(".c").is_file()}
    return sorted(path.relative_to(root).as_posix() for path in found | native if path.stat().st_size > 0)


def imports(path: Path, root: Path) -> Iterator[Path]:
    """The first-party files that the file `path` itself imports, with the packages that they lie in."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{path}:{node.lineno}: relative import"
            # `from package import name` means a module of the package, or something inside it.
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    for name in names:
        parts = name.split(".")
        if parts[0] in PACKAGES:
            packages = [root.joinpath(*parts[:length], "__init__.py") for length in range(1, len(parts) + 1)]
            module = root.joinpath(*parts).with_suffix(".py")
            yield from (file for file in (*packages, module) if file.is_file() and not is_lazy(file))


def is_lazy(path: Path) -> bool:
    """Whether importing the file brings in nothing: it imports within `__getattr__` (PEP 562), or for type checkers.

    Such a package is no dependency of what imports a module beside it.
    """
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return any(isinstance(node, ast.FunctionDef) and node.name == "__getattr__" for node in body) and all(
        (isinstance(node, ast.FunctionDef) and node.name == "__getattr__")
        or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        or (isinstance(node, ast.ImportFrom) and node.module == "typing")
        or (isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING")
        for node in body
    )


def sections(script: Path) -> list[str]:
    """The sections of params.yaml that a stage reads: the fields of its class Params, if it has one."""
    for node in ast.parse(script.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == "Params":
            fields = (field.target for field in node.body if isinstance(field, ast.AnnAssign))
            return [field.id for field in fields if isinstance(field, ast.Name)]
    return []


def complete(text: str, root: Path) -> str:
    """The dvc.yaml `text` with the list under each `deps:` and `params:` of a stage made anew; all else stays.

    Raises ValueError where a stage lacks the key.
    """
    wanted: dict[str, dict[str, list[str]]] = {
        name: {"deps": dependencies(stage, root), "params": sections(script(stage, root))}
        for name, stage in stages(text).items()
    }
    lists: dict[str, list[str]] = {}
    lines: list[str] = []
    inside: int | None = None  # indentation of the key whose old list is being passed over
    for line in text.splitlines():
        indentation = len(line) - len(line.lstrip())
        if inside is not None and line.strip() and indentation > inside:
            continue
        inside = None
        lines.append(line)
        if match := re.fullmatch(r"  (\w+):", line):
            lists = wanted.get(match[1], {})
        elif (key := line.strip().removesuffix(":")) in lists and line.endswith(":"):
            lines += [f"{' ' * indentation}  - {item}" for item in lists.pop(key)]
            inside = indentation
    for name, rest in wanted.items():
        for key, items in rest.items():
            if items:
                raise ValueError(f"dvc.yaml: the stage {name} has no `{key}:`, it needs one for {', '.join(items)}")
    return "\n".join(lines) + "\n"
