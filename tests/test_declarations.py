"""What dvc.yaml has to say, worked out from the code of small trees."""

from pathlib import Path

import pytest

from minimind import declarations

TEXT = """\
# head
stages:
  x:
    cmd: python -m stages.x in out
    deps:
{}    params:
{}    outs:
      - out  # comment

  y:
    foreach: [a, b]
    do:
      cmd: python -m stages.y out/${{item}} more/${{item}}
      deps:
{}      metrics:
        - more/${{item}}:
            cache: true

plots: []
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with every form of import."""
    for name, text in {
        "minimind/__init__.py": "",
        "minimind/a.py": "import minimind.b\n",
        "minimind/b.py": "def f():\n    from minimind.deep import c, NAME\n",
        "minimind/deep/__init__.py": "NAME = 1\n",
        "minimind/deep/c.py": "import torch\n",
        "minimind/unused.py": "NAME = 1\n",
        "minimind/files.py": "from minimind import a\n",
        "stages/x.py": "from minimind import a, files\n\nclass Params:\n    seed: int\n    x: dict[str, int]\n",
        "stages/y.py": "import numpy\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_the_closure_holds_all_that_is_imported_and_is_not_empty(root: Path) -> None:
    deep = ["minimind/deep/__init__.py", "minimind/deep/c.py"]
    expected = ["minimind/a.py", "minimind/b.py", *deep, "minimind/files.py", "stages/x.py"]
    assert declarations.closure(root / "stages/x.py", root) == expected


def test_the_lists_are_made_anew_and_all_else_stays(root: Path) -> None:
    code = "".join(f"      - {name}\n" for name in declarations.closure(root / "stages/x.py", root))
    new = TEXT.format(
        code + "      - in\n", "      - seed\n      - x\n", "        - stages/y.py\n        - out/${item}\n"
    )
    for old in (TEXT.format("", "", ""), TEXT.format("      - gone.py\n", "      - z\n", "        - in\n"), new):
        assert declarations.complete(old, root) == new
    with pytest.raises(ValueError, match="the stage x has no `params:`"):
        declarations.complete(new.replace("    params:\n      - seed\n      - x\n", ""), root)


@pytest.mark.parametrize(
    ("text", "lazy"),
    [
        (
            '"""Doc."""\nfrom typing import Any\n\n\ndef __getattr__(name):\n    from minimind.a import f\n',
            True,
        ),
        ("if TYPE_CHECKING:\n    from minimind.a import f\n\n\ndef __getattr__(name):\n    return 1\n", True),
        ("from minimind.a import f\n\n\ndef __getattr__(name):\n    return 1\n", False),
        ("def __getattr__(name):\n    return 1\n\n\nNAME = 1\n", False),
        ("NAME = 1\n", False),
        ("", False),
    ],
)
def test_a_package_that_imports_on_demand_is_no_dependency(text: str, lazy: bool, root: Path) -> None:
    (root / "minimind/__init__.py").write_text(text)
    (root / "minimind/a.py").write_text("def f(): ...\n")
    assert declarations.is_lazy(root / "minimind/__init__.py") == lazy
    names = declarations.closure(root / "stages/x.py", root)
    assert ("minimind/__init__.py" in names) == (bool(text) and not lazy)
