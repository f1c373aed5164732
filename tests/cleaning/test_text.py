"""Edits of texts, and what they must leave alone."""

import pytest

from minimind.cleaning import text


def test_normal_form_keeps_chinese_punctuation() -> None:
    assert text.normalise("e\u0301，！？（）²", "NFC") == "é，！？（）²"
    assert text.normalise("，！？", "NFKC") == ",!?"


def test_control_characters_go_and_joiners_stay() -> None:
    assert text.strip_control("a\x00b\u200b\ufeff\tc\r\nd\re") == "ab\tc\nd\ne"
    assert text.strip_control("👩\u200d🚀") == "👩\u200d🚀"


@pytest.mark.parametrize("kept", ["if a<b and c>d: pass", "List<String> x", "<think>5</think>", "AT&T", "```<br>```"])
def test_what_only_looks_like_html_stays(kept: str) -> None:
    assert text.strip_html(kept) == kept


def test_html_goes() -> None:
    assert (
        text.strip_html('<div class="x">A&nbsp;<b>b</b><br/>c &amp; d</div><script>x < 1</script>').strip()
        == "A b\nc & d"
    )


def test_frames_go_line_by_line() -> None:
    assert text.strip_frames("第一行。\n版权所有 2020\n第二行。") == "第一行。\n第二行。"
