"""What counts as a personal number, and what does not."""

import pytest

from minimind.cleaning.redaction import redact


@pytest.mark.parametrize(("found", "shown"), [
    ("mail me@x.example.org.", "mail [email]."),
    ("电话13812345678，", "电话[phone number]，"),
    ("+86 138 1234 5678", "[phone number]"),
    ("010-62345678", "[phone number]"),
    ("call (415) 555-2671 now", "call [phone number] now"),
    ("+44 20 7946 0958", "[phone number]"),
    ("身份证11010519491231002X。", "身份证[identity number]。"),  # GB 11643's own example
])  # fmt: skip
def test_personal_numbers_are_replaced(found: str, shown: str) -> None:
    assert redact(found) == shown


@pytest.mark.parametrize("kept", [
    "110105194912310021",  # a wrong check digit
    "3.13812345678", "1381234567", "138123456789", "1914-1918", "@decorator", "a@b", "2+3=5", "1234567890123",
    "+1000 points", "+12345 67 or so", "C+11 to C+20",
])  # fmt: skip
def test_other_numbers_stay(kept: str) -> None:
    assert redact(kept) == kept
