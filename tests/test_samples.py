"""What would have been right, as a reader of the report sees it."""

from pathlib import Path
from typing import Any

import pytest

from minimind import samples

MESSAGES = [{"role": "user", "content": "12 + 7?"}]
SUM = {"id": "s", "kind": "generate", "messages": MESSAGES, "verify": {"kind": "number", "value": 19}}
CALL = {"name": "calculator", "arguments": {"expression": "12+7"}}


@pytest.mark.parametrize(
    ("item", "family", "expected"),
    [
        ({"kind": "choice", "choices": [" dry.", " wet."], "answer": 1}, "know", "wet."),
        (SUM, "sum", "19"),
        (SUM | {"sampled": {"family": "clean", "verify": {"kind": "exact", "value": "nineteen"}}}, "sum", "19"),
        (SUM | {"sampled": {"family": "clean", "verify": {"kind": "exact", "value": "nineteen"}}}, "clean", "nineteen"),
        (SUM | {"kind": "tool", "call": CALL}, "tool", 'calculator {"expression": "12+7"}, then 19'),
    ],
)
def test_what_is_expected(item: dict[str, Any], family: str, expected: str) -> None:
    assert samples.expected(item, family) == expected


def test_lines_that_are_no_items_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "exam.jsonl").write_text('{"id": "a"}\n\n{"id": 7}\n[1]\n{\n{"id": "b"}')
    assert samples.read_items(tmp_path) == {"a": {"id": "a"}, "b": {"id": "b"}}
