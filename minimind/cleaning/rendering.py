"""HTML → text by lxml: line breaks where blocks begin and end, tabs between the cells of a table."""

import re

from lxml import etree

_BLOCKS = (
    "address article aside body button caption center dd details dialog dir div dt fieldset figcaption footer form "
    "frameset header hgroup html legend li main menu nav noframes optgroup option search section select summary tbody "
    "tfoot thead tr"
)
_APART = "p h1 h2 h3 h4 h5 h6 blockquote pre ul ol dl table figure hr"
BLOCKS, PARAGRAPHS = frozenset(_BLOCKS.split()), frozenset(_APART.split())  # the latter are a blank line apart
CELLS = frozenset(["td", "th"])
_SKIPPED = frozenset(["script", "style", "noscript", "template", "iframe", "object", "applet", "svg", "head"])
_KEEPING_SPACE = frozenset(["pre", "textarea", "listing", "xmp"])


def page(source: str) -> str:
    """The text of a whole page of HTML; its head, scripts and styles are left out.

    White space is as in a browser: runs of it are one space, but in <pre>; paragraphs are a blank line apart.
    """
    return _parse(source, _Page()).strip("\n").rstrip()


def fragment(source: str) -> str:
    """The text of a piece of HTML in which white space stays as it is, but at its beginning."""
    return _parse(source, _Fragment())


def _parse(source: str, target: "_Renderer") -> str:
    if not source.strip():
        return ""
    # One that is not told to is stopped by depth and size.
    parser = etree.HTMLParser(target=target, encoding="utf-8", huge_tree=True)
    told: str = etree.fromstring(source.replace("\0", "").encode(), parser)
    return told.replace("\xa0", " ")


class _Renderer:
    """Writes down the text that a parser finds; breaks wait until text follows them."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.lines = self.tabs = 0  # that are due before the next text
        self.trailing = 0  # line ends behind the last text
        self.skipped = self.verbatim = 0  # depths
        self.cells = [0]  # so far in the row, for each row that is open
        self.edge = False  # of a cell, where white space and blocks say nothing

    def start(self, tag: str, attributes: object) -> None:
        self.skipped += tag in _SKIPPED
        self.verbatim += tag in _KEEPING_SPACE
        if tag == "br":
            self.lines += not self.edge
        elif tag in CELLS:
            self.tabs += self.cells[-1] > 0
            self.cells[-1] += 1
            self.edge = True
        elif tag == "tr":
            self.cells.append(0)
            self.edge = False
            self._break(tag)
            self.edge = True
        else:
            self._break(tag)
        self.after_pre = tag == "pre"

    def end(self, tag: str) -> None:
        self.skipped -= tag in _SKIPPED
        self.verbatim -= tag in _KEEPING_SPACE
        if tag in CELLS:
            self.lines = self.lines if self.edge else 0
            self.edge = True
            return
        if tag == "tr":
            if len(self.cells) > 1:
                self.cells.pop()
            self.edge, self.tabs = False, 0
        self._break(tag)

    def _break(self, tag: str) -> None:
        due = 2 if tag in PARAGRAPHS else 1 if tag in BLOCKS else 0
        if due and not self.edge:
            self.lines = max(self.lines, due)

    def data(self, text: str) -> None:
        if self.skipped or (self.edge and text.isspace()):
            return
        if self.after_pre:
            text, self.after_pre = text.removeprefix("\n"), False
        if text:
            self.add(text)

    def add(self, text: str) -> None:
        raise NotImplementedError

    def write(self, text: str) -> None:
        """Append text, with what is due before it."""
        if self.parts:
            leading = text[: len(text) - len(text.lstrip())].count("\n")
            self.parts.append("\n" * (self.lines - self.trailing - leading))
        self.parts.append("\t" * self.tabs + text)
        self.lines = self.tabs = 0
        self.edge = False
        self.trailing = text[len(text.rstrip()) :].count("\n")

    def comment(self, text: str) -> None:
        """Nothing is said of comments."""

    def close(self) -> str:
        return "".join(self.parts)


class _Fragment(_Renderer):
    """White space stays as it is; line ends that stand there make up for those that are due."""

    def __init__(self) -> None:
        super().__init__()
        self.held = ""  # white space behind a break

    def add(self, text: str) -> None:
        if text.isspace() and self.lines:
            self.held += text
        else:
            self.write(self.held + text)
            self.held = ""

    def close(self) -> str:
        return super().close() + self.held


class _Page(_Renderer):
    """Runs of white space are one space, or nothing where a line begins or ends."""

    def __init__(self) -> None:
        super().__init__()
        self.space = False

    def add(self, text: str) -> None:
        if self.verbatim:
            self.write(text)
            return
        said = re.sub(r"[ \t\n\f\r]+", " ", text)
        within = self.parts and not self.lines and not self.tabs and not self.trailing
        if (self.space or said.startswith(" ")) and within and said.strip(" "):
            said = " " + said.lstrip(" ")
        else:
            said = said.lstrip(" ")
        self.space = text[-1] in " \t\n\f\r" or (self.space and not said)
        if said.strip(" "):
            self.write(said.rstrip(" "))
