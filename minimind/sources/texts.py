"""Files of text as documents: plain text, Markdown, HTML; one document a file, or cut at blank lines or by size.

A page of HTML is read as a browser shows it. Line ends become \\n, blank lines at both ends go, all else stays.
"""

import codecs
import re
from collections.abc import Iterator

from minimind.cleaning import rendering

SUFFIXES = {
    "txt": "text", "text": "text", "md": "markdown", "markdown": "markdown", "html": "html", "htm": "html",
    "xhtml": "html",
}  # fmt: skip
"""What a file's name ends in → its format."""
TEXTS = ("text", "markdown", "html")
BLANK_LINES = "blank lines"

_MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_CHARSET = re.compile(rb"<(?:meta|\?xml)[^>]*?(?:charset|encoding)\s*=\s*[\"']?\s*([\w-]+)", re.IGNORECASE)
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
_BREAKS = ("\n\n", "\n", r"[。！？；]|[.!?;](?=\s)", r"\s")  # where a text that is too long is cut, the best first


def documents(content: bytes, format: str, split: str | None, max_characters: int) -> Iterator[str]:
    """The documents of one file; at least one, be it empty.

    split: None, or BLANK_LINES. max_characters: a longer document is cut; 0: none is. Raises ValueError, which names
    the byte, where the file is in no encoding that it tells.
    """
    text = decoded(content, format).replace("\r\n", "\n").replace("\r", "\n")
    if format == "html":
        text = rendering.page(text)
    blocks = _blocks(text, format) if split == BLANK_LINES else [text]
    pieces = [piece for block in blocks for piece in cut(block.strip("\n"), max_characters)]
    yield from [piece for piece in pieces if piece.strip()] or [""]


def decoded(content: bytes, format: str) -> str:
    """The text, which is UTF-8 unless it begins with a mark of another form, or as HTML names another encoding."""
    for mark, encoding in _MARKS.items():
        if content.startswith(mark):
            return content.removeprefix(mark).decode(encoding)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        named = _CHARSET.search(content[:4096]) if format == "html" else None
        if named:
            # Pages that say GB2312 use characters of its successor.
            encoding = {"gb2312": "gb18030", "gbk": "gb18030"}.get(named[1].decode().lower(), named[1].decode())
            try:
                return content.decode(encoding)
            except (LookupError, UnicodeDecodeError):
                pass
        raise ValueError(
            f"it is not UTF-8 (byte {error.start:,} is 0x{content[error.start]:02x}): convert it, for example with "
            "`iconv -f GB18030 -t UTF-8`"
        ) from None


def _blocks(text: str, format: str) -> Iterator[str]:
    """What stands between blank lines; a fence of Markdown keeps what it holds together."""
    block: list[str] = []
    fence = ""
    for line in text.split("\n"):
        if format == "markdown" and (found := _FENCE.match(line)):
            if not fence:
                fence = found[1]
            elif line.strip().startswith(fence):
                fence = ""
        if line.strip() or fence:
            block.append(line)
        elif block:
            yield "\n".join(block)
            block = []
    if block:
        yield "\n".join(block)


def cut(text: str, max_characters: int) -> Iterator[str]:
    """The text in pieces of at most so many characters, cut at a blank line, a line, a sentence or a word."""
    while 0 < max_characters < len(text):
        head = text[: max_characters + 1]
        # Not in the first half: pieces should not be much shorter than they may be.
        ends = (
            [found.end() for found in re.finditer(pattern, head) if max_characters // 2 < found.end() <= max_characters]
            for pattern in _BREAKS
        )
        end = next((found[-1] for found in ends if found), max_characters)
        if piece := text[:end].rstrip():
            yield piece
        text = text[end:].lstrip("\n")
    yield text
