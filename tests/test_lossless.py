"""JSON read and written without altering a number, and what is refused."""

import json
import pickle
import random
from typing import Any

import orjson
import pytest

from minimind import lossless

LITERALS = [
    "0", "-0", "7", "-9223372036854775808", "18446744073709551615", "18446744073709551616", "12345678901234567890123",
    "9" * 5000, "1.0", "1.10", "0.1", "-0.0", "1e5", "1E5", "1e+5", "1.5e-7", "1e16", "1e+16", "0.00001", "1e-05",
    "100000000000000000.0", "3.14159265358979323846", "1e999", "-1e-999", "NaN", "Infinity", "-Infinity",
]  # fmt: skip


@pytest.mark.parametrize("literal", LITERALS)
@pytest.mark.parametrize("wrap", ['{{"a":{}}}', "[{}]", '["b",{},"{}"]', '{{"a":[[{}],"[{}"]}}', "{}"])
@pytest.mark.parametrize("kind", [str, str.encode])
def test_numbers_are_written_as_they_were_read(literal: str, wrap: str, kind: Any) -> None:
    text = wrap.format(literal, literal)
    value = lossless.loads(kind(text))
    assert lossless.dumps(value) == text.encode()
    assert lossless.text(value, separators=(",", ":")) == text
    assert lossless.dumps(pickle.loads(pickle.dumps(value))) == text.encode()
    assert lossless.is_strict(value) == (literal[-1].isdigit())


def test_values_are_those_of_the_standard_library() -> None:
    source = random.Random(1)

    def draw(depth: int) -> Any:
        kind = source.randrange(8 if depth < 4 else 6)
        if kind == 6:
            return [draw(depth + 1) for _ in range(source.randrange(4))]
        if kind == 7:
            return {
                source.choice(["a", "1.10", '"', "\\", "é[1.5"]): draw(depth + 1) for _ in range(source.randrange(4))
            }
        numbers = [source.randint(-(10**25), 10**25), source.uniform(-1e20, 1e20), source.random() * 1e-9]
        return source.choice([None, True, False, "x", ": 1.50", '\\"1e5', 3, -7, *numbers])

    for _ in range(500):
        value = draw(0)
        text = json.dumps(value, ensure_ascii=False)
        assert lossless.loads(text) == value
        assert lossless.text(lossless.loads(text)) == text
        assert json.loads(lossless.dumps(lossless.loads(text))) == value
        assert lossless.text(value, indent=2, sort_keys=True) == json.dumps(
            value, ensure_ascii=False, indent=2, sort_keys=True
        )


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "nan", "+1", "01", ".5", "1.", '{"a": 1,}', '"\\ud83d"', '["\\ud83d", NaN]', '["\ud83d"]', '["\n"]',
        '[1.10, "\t"]', "[NaN" + "[" * 100_000, "[" * 100_000, "[1.10," * 900 + "1" + "]" * 900, "[" * 129 + "]" * 129,
        '{"a":' * 129 + "1" + "}" * 129,
    ],
    ids=lambda text: ascii(text[:20]),
)  # fmt: skip
def test_what_is_no_json_or_too_deep_is_refused(text: str) -> None:
    for form in (text, text.encode(errors="surrogatepass")):
        with pytest.raises(ValueError, match=r"."):
            lossless.loads(form)


def test_depth_is_bounded_below_what_can_be_written() -> None:
    value = lossless.loads("[" * 127 + "1.10" + "]" * 127 + "\n")
    assert lossless.depth(value) == 127
    assert lossless.depth([[], {"a": [{}]}, "[[[[["]) == 4
    wrapped = [{"a": [value, lossless.loads('"' + "[" * 500 + '"')]}]
    assert lossless.loads(lossless.dumps(value)) == value
    assert orjson.loads(lossless.dumps(wrapped)) == wrapped


def test_half_a_surrogate_is_written_as_an_escape_that_no_reader_takes() -> None:
    written = lossless.dumps({"a": "\ud83d", "n": 1 << 70})
    assert written == b'{"a":"\\ud83d","n":1180591620717411303424}'
    with pytest.raises(ValueError, match="surrogate"):
        lossless.loads(written)


def test_blank_lines_hold_white_space_and_a_byte_order_mark_at_most() -> None:
    assert all(map(lossless.is_blank, [b"", b"\n", b" \t\r\n", b"\xef\xbb\xbf\n"]))
    assert not any(map(lossless.is_blank, [b"0", b"\xe3\x80\x80", b'""', b"\x00"]))
