"""HTML goes, whole pages and remains in other text; what only looks like it stays to the byte."""

import pytest

from minimind.cleaning import markup, rendering

PAGE = """\
<?xml version="1.0"?>
<!-- made by hand -->
<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Strict//EN" "x.dtd">
<html lang=en><head><title>Shown elsewhere</title><style>p > b { color: red }</style></head>
<body onload="if (a < b) go()">
<h1>The
  harbour</h1>
<p>Run <code>ls&nbsp;-l</code> or <tt>dir</tt>,<br>then look.
<blockquote>Quiet <em>water</em>.</blockquote>
<pre class=terminal>
$ ls
  a   b
</pre>
<table border summary="x"><tr><th>System<th>Architecture</tr>
<tr><td nowrap><p>PC</p></td> <td></td>
  <td><p>amd64</p></td></tr></table>
<ul><li>one<li>two &amp;amp; three</ul>
<script async>document.write("<p>no</p>")</script>
<input disabled><custom-note>5 &lt; 6</custom-note> &copy;
</body></html>
"""
TEXT = """\
The harbour

Run ls -l or dir,
then look.

Quiet water.

$ ls
  a   b

System\tArchitecture
PC\t\tamd64

one
two &amp; three

5 < 6 ©"""


def test_a_page_is_read_as_a_browser_shows_it() -> None:
    assert rendering.page(PAGE) == TEXT
    assert markup.strip(PAGE) == TEXT
    assert markup.strip("\ufeff \n" + PAGE[: PAGE.index("</body>")]) == TEXT


@pytest.mark.parametrize("kept", [
    "if a<b and c>d: pass", "if (a <b && c> d) return;", "List<String> x", "Map<K, V> m; Foo<P>(x: P)", "Ref<Input>",
    "vector<object> v; template<p>", "<think>5</think>", "<tool_call>{}</tool_call>", "AT&T", "&notanentity", "a&b;",
    "```\n<br>&lt;\n```", "~~~html\n<p>a</p>\n~~~\nb", "Write `<b>bold</b>` and `&nbsp;`.", "```\n<p>never ended</p>",
    "In HTML the <p> tag begins a paragraph, and <br> breaks a line.", "Use <b> and <i>, closed by </b> and </i>.",
    "<john@example.com> wrote on <https://example.com/?a=1&b=2>:", "#include <stdio.h>\r\nint main(void);",
    "usage: copy <source> <object> [<label>]", "I <3 you", "x << 2 >> 1 <= 3", "<note><to>x</to></note>", "<!-- open",
    "<script> stands first\n", "1 < 2\n\n\n  and <s> too\t\r\n", "<|im_start|>user", "a <- b; c -> d", "",
])  # fmt: skip
def test_what_only_looks_like_html_stays(kept: str) -> None:
    assert markup.strip(kept) == kept


@pytest.mark.parametrize(("text", "told"), [
    # Tags of every kind go, and nothing else changes.
    ("  He said <b>so</b>,  twice:\n\n\tx < 3 && y\n", "  He said so,  twice:\n\n\tx < 3 && y\n"),
    ("Run <code>ls</code>, <TT>dir</TT> or <kbd>x</kbd>", "Run ls, dir or x"),
    ('See <a href="a>b.html" target=_blank download>it</a>.', "See it."),
    ("Fill <input type='text' disabled> in", "Fill  in"),
    ("Cut here.</p>\nNext", "Cut here.\nNext"),
    ("One.<p>Two.<p>Three", "One.\n\nTwo.\n\nThree"),
    ("One<br>\ntwo<br/><br />three", "One\ntwo\n\nthree"),
    ("a <!-- not\nshown --> b", "a  b"),
    ("a <script>if (x < 1) y = '</p>'</script> b", "a  b"),
    ("The <script> tag is <b>old</b>", "The  tag is old"),
    ("List<Input> is <b>typed</b>, <think>so</think>", "List is typed, <think>so</think>"),
    # Blocks end lines, cells are apart, also where the table was cut off.
    ("Intro <div>a</div><div>b</div>", "Intro \na\nb"),
    ("x: <blockquote>y</blockquote> z", "x: \n\ny\n\n z"),
    ("<td>System</td><td>Architecture</td>", "System\tArchitecture"),
    ("So:\n<tr>\n <td>a</td>\n <td>b</td>\n</tr>\n<tr>\n <td>c</td>\n <td>d</td>\n</tr>\n", "So:\na\tb\nc\td\n"),
    ("Loose <table>text<tr><td>c</td></tr></table> order", "Loose \n\ntext\nc\n\n order"),
    # Entities.
    ("5 &lt; 6 &amp;amp; &#x4e2d;&nbsp;&hearts;", "5 < 6 &amp; 中 ♥"),
    ("AT&T <i>&copy; &copy &lt;b&gt;</i>", "AT&T © &copy <b>"),
    # Markdown.
    ("<p align=center>Logo</p>\n\n```html\n<p>&lt;</p>\n```\n`<br>` <br/> <b>x</b>",
     "Logo\n\n```html\n<p>&lt;</p>\n```\n`<br>` \n x"),
    ("<b></b>", ""),
])  # fmt: skip
def test_remains_of_html_go_and_the_rest_stays(text: str, told: str) -> None:
    assert markup.strip(text) == told


def test_neither_depth_nor_what_never_ends_loses_text() -> None:
    assert rendering.page("<div>" * 3000 + "deep" + "</div>" * 3000 + "<p>after") == "deep\n\nafter"
    for opening in ("<script>", "<!-- ", '<a href="', "<p"):
        assert markup.strip(opening * 2000 + " end <b>x</b>").endswith("end x")
