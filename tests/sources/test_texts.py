"""Files of text: every word of them is in a document, and the manifest says how documents were made."""

import gzip
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from minimind import files
from minimind.sources import collection, texts
from minimind.sources.source import FetchError

PAGE = (
    "<!DOCTYPE html><html><head><title>T</title></head><body><h1>Paris</h1>"
    + "<p>The capital<br>of France.</p></body></html>"
)
MARKDOWN = "# Title\n\nA paragraph\nof two lines.\n\n```python\na = 1\n\nb = 2\n```\n\nThe end.\n"


def fetched(root: Path, *entries: dict[str, Any]) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """The lines of each file that the entries become, and the manifest's words on them."""
    out = root / "raw"
    out.mkdir()
    collection.fetch({"pretrain": entries}, out, root)
    manifest = files.verify_manifest(out / "pretrain")["files"]
    lines = {name: (out / "pretrain" / name).read_bytes().splitlines() for name in manifest}
    return {name: [json.loads(line) for line in lines[name]] for name in lines}, manifest


def test_each_file_is_a_document(tmp_path: Path) -> None:
    own = tmp_path / "pages"
    for name, content in {
        "b.html": PAGE.encode(), "a.txt": "\ufeff\nFirst\r\nsecond\n\n".encode(), "c.md": MARKDOWN.encode(),
        "sub/d.txt": "法国".encode("utf-16"), "e.txt": b"",
    }.items():  # fmt: skip
        (own / name).parent.mkdir(parents=True, exist_ok=True)
        (own / name).write_bytes(content)
    found, manifest = fetched(tmp_path, {"uri": f"file:{own}/**/*.*"}, {"uri": f"file:{own}/a.txt"})
    assert found["0-pages.jsonl"] == [
        {"text": "First\nsecond", "file": "a.txt"},
        {"text": "Paris\n\nThe capital\nof France.", "file": "b.html"},
        {"text": MARKDOWN.strip("\n"), "file": "c.md"},
        {"text": "", "file": "e.txt"},
        {"text": "法国", "file": "d.txt"},
    ]
    assert found["1-a.jsonl"] == found["0-pages.jsonl"][:1]
    assert (manifest["0-pages.jsonl"]["documents"], manifest["0-pages.jsonl"]["lines"]) == ("one a file", 5)


def test_files_are_cut_as_one_says(tmp_path: Path) -> None:
    (tmp_path / "c.md").write_text(MARKDOWN)
    (tmp_path / "long.txt").write_text("One two three. Four five six.\nSeven\n \n\n\nEight")
    entries = [
        {"uri": f"file:{tmp_path}/c.md", "split": "blank lines"},
        {"uri": f"file:{tmp_path}/long.txt", "split": "blank lines", "name": "blocks"},
        {"uri": f"file:{tmp_path}/long.txt", "max_characters": 20, "name": "pieces"},
        {"uri": f"file:{tmp_path}/long.txt", "split": "blank lines", "max_characters": 20, "name": "both"},
    ]
    found, manifest = fetched(tmp_path, *entries)
    texts_of = {name: [line["text"] for line in lines] for name, lines in found.items()}
    code = "```python\na = 1\n\nb = 2\n```"
    assert texts_of["0-c.jsonl"] == ["# Title", "A paragraph\nof two lines.", code, "The end."]
    assert texts_of["blocks.jsonl"] == ["One two three. Four five six.\nSeven", "Eight"]
    assert texts_of["pieces.jsonl"] == ["One two three.", " Four five six.", "Seven\n \n\n\nEight"]
    assert texts_of["both.jsonl"] == ["One two three.", " Four five six.", "Seven", "Eight"]
    assert [entry.get("documents") for entry in manifest.values()] == [
        "split at blank lines", "split at blank lines", "split at blank lines, cut at 20 characters",
        "one a file, cut at 20 characters",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["word " * 500, "字" * 999, "一句话。" * 300, "a\n\nb\n" * 200, "x" * 100])
def test_cutting_loses_nothing_but_space(text: str) -> None:
    pieces = list(texts.cut(text, 100))
    assert all(len(piece) <= 100 for piece in pieces)
    assert "".join("".join(pieces).split()) == "".join(text.split())
    assert len(pieces) <= 2 * len(text) / 100 + 1
    assert list(texts.cut(text, 0)) == [text]


def test_pages_in_the_encoding_they_name(tmp_path: Path) -> None:
    meta = '<meta http-equiv="Content-Type" content="text/html; charset=gb2312">'
    page = f"<html><head>{meta}</head><body>巴黎镕</body></html>"
    (tmp_path / "old.htm").write_bytes(page.encode("gb18030"))
    found, _ = fetched(tmp_path, {"uri": f"file:{tmp_path}/old.htm"})
    assert found["0-old.jsonl"] == [{"text": "巴黎镕", "file": "old.htm"}]


def test_an_encoding_that_nobody_names_is_refused_with_the_mend(tmp_path: Path) -> None:
    (tmp_path / "old.txt").write_bytes("Paris 巴黎".encode("gbk"))
    with pytest.raises(
        FetchError, match=r"old.txt can't be read as text .* not UTF-8 \(byte 6 is 0xb0\).*iconv -f GB18030"
    ):
        fetched(tmp_path, {"uri": f"file:{tmp_path}/old.txt"})


def test_a_document_that_is_too_long_for_a_line_says_how_to_cut_it(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_bytes(b"All work and no play. " * 800_000)
    with pytest.raises(FetchError, match=r"one document of 17,600,0\d\d bytes, .*`split: blank lines` or `max_char"):
        fetched(tmp_path, {"uri": f"file:{tmp_path}/book.txt"})


def test_texts_in_a_zip_and_with_a_format(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "corpus.zip", "w") as zipped:
        zipped.writestr("docs/b.txt", "Second")
        zipped.writestr("docs/a.md", "First")
    (tmp_path / "README").write_text("Read me")
    entries = [{"uri": f"file:{tmp_path}/corpus.zip"}, {"uri": f"file:{tmp_path}/README", "format": "text"}]
    found, manifest = fetched(tmp_path, *entries)
    assert found["0-corpus.jsonl"] == [{"text": "First", "file": "docs/a.md"}, {"text": "Second", "file": "docs/b.txt"}]
    assert found["1-README.jsonl"] == [{"text": "Read me", "file": "README"}]
    assert manifest["0-corpus.jsonl"]["documents"] == "one a file"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.yaml", "- text: One\n  day: 2024-05-01\n  1: x\n- Two\n"),
        ("a.yml", "text: One\nday: 2024-05-01\n1: x\n---\nTwo\n"),
        ("a.json", '[{"text": "One", "day": "2024-05-01", "1": "x"}, "Two"]'),
        ("a.jsonl", '"Two"\n'),
        ("a.jsonl.gz", None),
    ],
)
def test_records_of_yaml_and_lists_of_strings(tmp_path: Path, name: str, content: str | None) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode() if content is not None else gzip.compress(b' "Two"\n'))
    found, manifest = fetched(tmp_path, {"uri": f"file:{path}"})
    (records,) = found.values()
    expected = [{"text": "One", "day": "2024-05-01", "1": "x"}, {"text": "Two"}]
    assert records == (expected if "jsonl" not in name else expected[1:])
    assert "documents" not in next(iter(manifest.values()))


def test_broken_yaml_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("- text: [\n")
    with pytest.raises(FetchError, match="a.yaml can't be read as yaml"):
        fetched(tmp_path, {"uri": f"file:{tmp_path}/a.yaml"})
