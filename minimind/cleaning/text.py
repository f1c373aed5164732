"""Edits of single texts: one form of Unicode, no control characters, no remains of chat templates, no lines from page
frames.
"""

import re
import unicodedata

# Of the controls a text needs tabs and line ends; joiners (U+200C, U+200D) and direction marks carry meaning.
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u200b\u2060\ufeff\ufdd0-\ufdef\ufffe\uffff]|\r\n?")
# As in MiniMind's pretrain_hq, where they stand between the pieces of a document.
_MARKERS = re.compile(r"(?:\s*(?:<\|im_start\|>|<\|im_end\|>|<\|endoftext\|>|</?s>))+\s*")

BOILERPLATE = (
    "enable javascript", "use cookies", "cookie policy", "privacy policy", "terms of use", "terms of service",
    "all rights reserved", "click here to", "subscribe to our newsletter", "sign up for our", "lorem ipsum",
    "版权所有", "未经授权", "转载请注明", "点击查看更多", "点击下载", "扫描二维码", "关注公众号", "关注微信",
    "责任编辑：", "本文来源：", "上一篇：", "下一篇：", "请启用javascript", "京icp备", "沪icp备", "粤icp备", "浙icp备",
)  # fmt: skip
"""What lines of page frames say. After C4's line rules (arXiv:1910.10683, section 2.2); the Chinese ones are ours."""

_FRAME = re.compile("|".join(map(re.escape, BOILERPLATE)), re.IGNORECASE)
_LONGEST_FRAME = 120  # characters; a longer line has something to say besides


def normalise(text: str, form: str) -> str:
    """NFC joins letters with their accents and alters nothing that a reader sees.

    NFKC also turns the full-width ，！？（） of Chinese into ASCII, and ² into 2.
    """
    return text if unicodedata.is_normalized(form, text) else unicodedata.normalize(form, text)  # type: ignore[arg-type]


def strip_control(text: str) -> str:
    """Without control characters, zero-width spaces, soft hyphens and byte-order marks; line ends are those of Unix."""
    return CONTROL.sub(lambda found: "\n" if found[0].startswith("\r") else "", text) if CONTROL.search(text) else text


def strip_markers(text: str) -> str:
    """With a line end in place of the markers of a chat template, written out, and without those at either end."""
    return _MARKERS.sub("\n", text).strip("\n") if _MARKERS.search(text) else text


def strip_frames(text: str) -> str:
    """Without short lines that hold one of BOILERPLATE."""
    if not _FRAME.search(text):
        return text
    lines = text.split("\n")
    return "\n".join(line for line in lines if len(line) > _LONGEST_FRAME or not _FRAME.search(line))
