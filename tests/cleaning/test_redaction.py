"""What counts as a personal number; the shares of a planted set that docs/data.md publishes."""

import re
from collections import Counter
from pathlib import Path

import pytest

from minimind.cleaning.redaction import redact

HERE = Path(__file__).parent
LINES = (HERE / "planted.txt").read_text(encoding="utf-8").splitlines()[1:]
KINDS = ("email", "identity number", "phone number")
PLANTED = re.compile("⟦(.+?)⟧")


def kind(number: str) -> str:
    if re.search("[@＠]|\\(at\\)", number):
        return "email"
    plain = re.sub("[ -]", "", number)
    return (
        "identity number" if len(plain) in (15, 18) and plain[:-1].isdigit() and plain[0] in "14１" else "phone number"
    )


def test_the_documentation_gives_precision_and_recall_on_the_planted_set() -> None:
    planted, found, right = Counter[str](), Counter[str](), Counter[str]()
    for line in LINES:
        shown = redact(PLANTED.sub(r"\1", line))
        numbers = PLANTED.findall(line)
        planted.update(map(kind, numbers))
        found.update(re.findall(rf"\[({'|'.join(KINDS)})\]", shown))
        exact = shown == PLANTED.sub(lambda number: f"[{kind(number[1])}]", line)
        right.update(kind(number) for number in numbers if exact or number not in shown)
    table = [
        f"| {name} | {planted[name]} | {right[name] / found[name]:.1%} | {right[name] / planted[name]:.1%} |"
        for name in KINDS
    ]
    text = (HERE.parents[1] / "docs/data.md").read_text(encoding="utf-8")
    assert "\n".join(table) in text, "\n".join(table)
    assert sum(right.values()) >= 0.9 * max(sum(found.values()), sum(planted.values()))


@pytest.mark.parametrize(("found", "shown"), [
    ("mail me@x.example.org.", "mail [email]."),
    ("电话13812345678，", "电话[phone number]，"),
    ("+86 138 1234 5678", "[phone number]"),
    ("010-62345678", "[phone number]"),
    ("call (415) 555-2671 now", "call [phone number] now"),
    ("+44 20 7946 0958", "[phone number]"),
    ("身份证11010519491231002X。", "身份证[identity number]。"),  # GB 11643's own example
    ("身份证１１０１０５１９４９１２３１００２Ｘ", "身份证[identity number]"),
    ("1-800-555-1234", "[phone number]"),
    ("(010)62751234", "[phone number]"),
    ("（０１０）６２７５１２３４", "[phone number]"),
    ("客服4008123123", "客服[phone number]"),
    ("8008101234", "[phone number]"),
    ("13812345678\n13987654321", "[phone number]\n[phone number]"),
    ("https://example.com/a?tel=13812345678", "https://example.com/a?tel=[phone number]"),
])  # fmt: skip
def test_personal_numbers_are_replaced(found: str, shown: str) -> None:
    assert redact(found) == shown


@pytest.mark.parametrize("kept", [
    "110105194912310021",  # a wrong check digit
    "3.13812345678", "1381234567", "138123456789", "1914-1918", "@decorator", "a@b", "2+3=5", "1234567890123",
    "+1000 points", "+12345 67 or so", "C+11 to C+20",
    "15000000000 元", "￥13812345678", "13812345678 bytes", "+2147483647", "2147483647", "/item/13812345678",
    "https://example.com/13812345678.html", "订单号：13812345678", '"id": 13812345678', "2024-01-15 10:30:00",
    "6222 0213 8123 4567 890", "1 1 2 3 5 8 13 21 34 55 89 144", "ISBN 978-7-302-12345-6",
])  # fmt: skip
def test_other_numbers_stay(kept: str) -> None:
    assert redact(kept) == kept
