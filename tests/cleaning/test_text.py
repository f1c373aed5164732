"""Edits of texts, and what they must leave alone."""

from minimind.cleaning import text


def test_normal_form_keeps_chinese_punctuation() -> None:
    assert text.normalise("e\u0301，！？（）²", "NFC") == "é，！？（）²"
    assert text.normalise("，！？", "NFKC") == ",!?"


def test_control_characters_go_and_joiners_stay() -> None:
    assert text.strip_control("a\x00b\u200b\ufeff\tc\r\nd\re") == "ab\tc\nd\ne"
    assert text.strip_control("👩\u200d🚀") == "👩\u200d🚀"


def test_markers_of_chat_templates_become_line_ends() -> None:
    """As pieces of a document are joined in MiniMind's pretrain_hq, and were in its files before."""
    assert text.strip_markers("<|im_start|>问？答。<|im_end|> <|im_start|>Why? So.<|im_end|>") == "问？答。\nWhy? So."
    assert text.strip_markers("<s>one</s>\n<s>two</s>") == "one\ntwo"
    kept = "a <span> and <|im_begin|>\n"
    assert text.strip_markers(kept) is kept


def test_frames_go_line_by_line() -> None:
    assert text.strip_frames("第一行。\n版权所有 2020\n第二行。") == "第一行。\n第二行。"
