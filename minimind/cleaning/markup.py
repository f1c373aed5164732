"""Texts that may hold HTML: which of it is meant, and what the text says without.

A page of HTML is read as a browser shows it. In other text white space stays as it is, and only what is HTML beyond
doubt is touched: `a<b and c>d`, List<String>, <think> and a sentence on the <br> tag stay, and so does what Markdown
marks as code.
"""

import html
import re
from collections.abc import Sequence
from itertools import pairwise

from lxml.html import defs

from minimind.cleaning import rendering
from minimind.cleaning.rendering import BLOCKS, CELLS, PARAGRAPHS

# Without attributes, these are written and never ended: br anywhere, the others where a line or a block begins.
_LONE = frozenset(["br", "hr", "wbr"])
_OPENING = frozenset(["p", "li", "dd", "dt", "tr", "td", "th", "option"])
# They would take the rest of the text with them; those that end are gone by the time.
_SWALLOWING = frozenset(["script", "style", "noscript", "iframe", "plaintext", "title", "textarea", "xmp"])
_BOOLEAN = (
    "allowfullscreen|async|autofocus|autoplay|border|checked|compact|controls|declare|default|defer|disabled|download|"
    "formnovalidate|hidden|inert|ismap|itemscope|loop|multiple|muted|nohref|nomodule|noresize|noshade|novalidate|"
    "nowrap|open|playsinline|readonly|required|reversed|selected|sortable"
)
_NEWER = "bdi data dialog frame listing main nobr noframes noembed picture plaintext rb rtc search slot template xmp"
_NAMES = (defs.tags - {"s"}) | set(_NEWER.split())  # <s> begins a text in some chat templates
_BLOCKS = "|".join(sorted(BLOCKS | PARAGRAPHS))
_ATTRIBUTE = (
    r"""(?:[\w:@.-]+\s{0,9}=\s{0,9}(?:"[^"]{0,4000}"|'[^']{0,4000}'|[^\s"'=<>`]+)"""
    rf"|(?:{_BOOLEAN}|(?:data|aria)-[\w-]+)(?=[\s/>]))"
)
_TAG = re.compile(
    rf"<(?P<end>/?)(?P<name>{'|'.join(sorted(_NAMES, key=len, reverse=True))})\b"
    rf"(?P<attributes>(?:(?:\s+|(?<=[\"'])){_ATTRIBUTE})*)[\s/]*>",
    re.IGNORECASE,
)
# What would not end is not followed past the next one, so that many of them take no time.
_COMMENT = r"<!--(?:(?!<!--|-->).)*-->"
_DROPPED = re.compile(
    r"<(?P<raw>script|style|noscript|iframe)\b[^<>]*>(?:[^<]|<(?!(?:script|style|noscript|iframe)\b|/(?P=raw)))*</(?P=raw)\s*>"
    rf"|{_COMMENT}|<!doctype\b[^<>]*>|<\?xml\b[^<>]*>",
    re.DOTALL | re.IGNORECASE,
)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#x[0-9a-f]{1,6}|[a-z][a-z0-9]{1,31});", re.IGNORECASE)
_CODE = re.compile(r"^(?P<fence>`{3,}|~{3,}).*?(?:^(?P=fence)|\Z)|`[^`\n]+`", re.DOTALL | re.MULTILINE)
_START_OF_PAGE = re.compile(
    rf"(?:\s|\ufeff|{_COMMENT}|<\?xml\b[^<>]*>)*"
    rf"<(?:(?P<sure>!doctype\s+html|html|head|body)|{_BLOCKS})(?=[\s/>])",
    re.DOTALL | re.IGNORECASE,
)
_END_OF_PAGE = re.compile(rf"(?:</(?:script|style|{_BLOCKS})\s*>|-->|<[bh]r\s*/?>)\s*\Z", re.IGNORECASE)


def strip(text: str) -> str:
    """The text without tags and entities; the same object where there are none.

    A text that begins and ends with blocks of HTML is read as a page is.
    """
    if not ("<" in text or "&" in text):
        return text
    start, pieces = _START_OF_PAGE.match(text), _cut_code(text)
    if start and (start["sure"] or (len(pieces) == 1 and _END_OF_PAGE.search(text))):
        return rendering.page(text)
    if "<" in text and _holds_html(pieces):
        lead = text[: len(text) - len(text.lstrip())]  # which the parser would drop
        return lead + rendering.fragment("".join(map(_protected, pieces)).lstrip())
    return "".join(piece if is_code else _unescaped(piece) for piece, is_code in pieces)


def _cut_code(text: str) -> list[tuple[str, bool]]:
    """The text in pieces, with whether each is code in Markdown."""
    found = list(_CODE.finditer(text))
    edges = [0, *(edge for match in found for edge in match.span()), len(text)]
    return [(text[a:b], number % 2 == 1) for number, (a, b) in enumerate(pairwise(edges)) if a < b]


def _holds_html(pieces: Sequence[tuple[str, bool]]) -> bool:
    """Whether tags do something in the text, rather than being spoken of."""
    for piece, is_code in pieces:
        if is_code:
            continue
        if _DROPPED.search(piece):
            return True
        opened: set[str] = set()
        for tag in _TAG.finditer(piece):
            name = tag["name"].lower()
            if tag["attributes"]:
                return True
            before, after = piece[: tag.start()][-1:], piece[tag.end() :][:1]
            begins = before in ("", "\n", ">")
            if name in _LONE:
                used = begins or after in ("", "\n", "<") or before.isalnum() or after.isalnum()
            elif tag["end"]:  # one that ends nothing is from a text that was cut
                used = (name in opened or name not in defs.tags or name in BLOCKS | PARAGRAPHS | CELLS) and (
                    begins or not before.isspace()
                )
            else:
                used = name in _OPENING and (begins or before in ".!?。！？" or (before.isalnum() and after.isalnum()))
                opened.add(name)
            if used:
                return True
    return False


def _protected(piece: tuple[str, bool]) -> str:
    """HTML that reads as the piece does, with nothing but the tags and entities that are meant."""
    text, is_code = piece
    if is_code:
        return html.escape(text, quote=False)
    text = _DROPPED.sub("", text)
    parts, end = [], 0
    for tag in _TAG.finditer(text):
        parts.append(_literal(text[end : tag.start()]))
        if tag["name"].lower() not in _SWALLOWING:
            parts.append(tag[0])
        end = tag.end()
    return "".join([*parts, _literal(text[end:])])


def _literal(text: str) -> str:
    text = re.sub(rf"&(?!{_ENTITY.pattern[1:]})", "&amp;", text, flags=re.IGNORECASE)
    return text.replace("<", "&lt;").replace(">", "&gt;")


def _unescaped(text: str) -> str:
    return _ENTITY.sub(lambda found: html.unescape(found[0]).replace("\xa0", " "), text)
