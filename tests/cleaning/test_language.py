"""Shares of languages."""

import pytest

from minimind.cleaning.language import shares


@pytest.mark.parametrize(("text", "language"), [
    ("春眠不觉晓，处处闻啼鸟。", "zh"),
    ("What is the capital of France, and who built the tower that stands beside the river?", "en"),
    ("Quelle est la capitale de la France, et qui a construit la tour qui se dresse au bord de la Seine ?", "other"),
    ("日本語の文章です。とても短いです。", "other"),
    ("Столица Франции — Париж.", "other"),
    ("OK", "en"),
])  # fmt: skip
def test_the_largest_share_is_that_of_the_language(text: str, language: str) -> None:
    found = shares(text)
    assert max(found, key=lambda name: found[name]) == language
    assert sum(found.values()) == pytest.approx(1)


def test_text_without_letters_has_no_language() -> None:
    assert set(shares("12 + 7 = 19").values()) == {0.0}


@pytest.mark.parametrize(("text", "language"), [
    ("What is the capital of France, and who built the tower that stands beside the river?", "en"),
    ("Quelle est la capitale de la France, et qui a construit la tour qui se dresse au bord de la Seine ?", "other"),
])  # fmt: skip
def test_full_width_letters_are_of_the_language_that_they_spell(text: str, language: str) -> None:
    wide = "".join(chr(ord(letter) + 0xFEE0) if letter > " " else "\u3000" for letter in text)
    assert shares(wide)[language] > 0.99
