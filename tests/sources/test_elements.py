"""Files of JSON cut into records, however the bytes arrive."""

import io
import json
import random
from typing import Any

import pytest

from minimind.sources import elements


class Trickle(io.BytesIO):
    """A stream that gives few bytes at a time."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(3)


def cut(content: bytes, limit: int = 1 << 20) -> list[bytes]:
    found = list(elements.cut(io.BytesIO(content), limit))
    assert list(elements.cut(Trickle(content), limit)) == found
    return found


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (b'\xef\xbb\xbf [ {"a": "]}\\""} , [1,[2]],\n"x", null,-1.50e3 ] ',
         [b'{"a": "]}\\""}', b"[1,[2]]", b'"x"', b"null", b"-1.50e3"]),
        (b'{"a":1}{"b":[{}]}\n {"c":"\\\\"}', [b'{"a":1}', b'{"b":[{}]}', b'{"c":"\\\\"}']),
        (b'{"version": 1, "meta": {"a": [{}]}, "data": [{"a":1}, {"b":2}], "n": [1]}', [b'{"a":1}', b'{"b":2}']),
        (b'{"train": [{"a":1}]}', [b'{"a":1}']),
        (b'{"text": "x", "data": [{"a":1}]}', [b'{"text": "x", "data": [{"a":1}]}']),
        (b'{"messages": [{"role":1}]}', [b'{"messages": [{"role":1}]}']),
        (b'{"data": [1, 2]}', [b'{"data": [1, 2]}']),
        (b"[]", []),
        (b" \n", []),
    ],
)  # fmt: skip
def test_records_are_found_in_every_layout(content: bytes, wanted: list[bytes]) -> None:
    assert cut(content) == wanted


def test_what_is_cut_is_what_was_joined() -> None:
    source = random.Random(1)

    def draw(depth: int = 0) -> Any:
        kind = source.randrange(4 if depth < 4 else 2)
        if kind > 1:
            values = [draw(depth + 1) for _ in range(source.randrange(4))]
            return values if kind == 2 else {f"k{number}\\": value for number, value in enumerate(values)}
        return source.choice(['"', "\\", "[}", "巴黎", "", 'a"b\\"']) if kind else source.choice([1, -2.5, None, True])

    for _ in range(100):
        records = [draw() for _ in range(source.randrange(6))]
        space = source.choice([None, 1])
        assert [json.loads(part) for part in cut(json.dumps(records, indent=space).encode())] == records
        objects = [{"id": record} for record in records]
        assert [json.loads(part) for part in cut("\n".join(map(json.dumps, objects)).encode())] == objects


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'[{"a":1}', "in the middle"), (b'[{"a":1},', "in the middle"), (b'[{"a":"x', "in the middle"),
        (b'{"a": {"b":1}', "in the middle"), (b'{"data": [{"a":1}', "in the middle"), (b"[" * 9999, "in the middle"),
        (b'[{"a":1} {"b":1}]', "expected ,, found '{'"), (b"[1] 2", "no record"), (b'{"a":1} x', "format: jsonl"),
        (b"PAR1", "neither"), ('[{"a":1}]'.encode("utf-16"), "neither"),
        (b'{"data": [{"a":1}], "train": [{"a":1}]}', "under `data` and under `train`"),
        (b'[{"a": "' + b"x" * 200_000 + b'"}]', "longer than 100000 bytes"),
    ],
    ids=lambda value: ascii(value[:12]),
)  # fmt: skip
def test_what_is_cut_off_or_no_json_is_said(content: bytes, message: str) -> None:
    for stream in (io.BytesIO(content), Trickle(content)):
        with pytest.raises(ValueError, match=message):
            list(elements.cut(stream, 100_000))
