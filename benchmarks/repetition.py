"""The repetition rules beside datatrove's, document by document: who removes what, and why they disagree.

    pip install datatrove spacy jieba numpy                      # in an environment of its own
    python -m benchmarks.repetition eng_Latn FILE.jsonl …        # or zho_Hani: the language as datatrove names it

Each line of a file is {"text"}. Prints a table, then every document that only one of the two removes. Each
disagreement comes from a difference of the rules that is named in REASONS, or is "unexplained".
"""

import importlib
import json
import sys
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from minimind.cleaning import repetition, units

RULES = "pipeline.filters.gopher_repetition_filter"
REASONS = {
    "short": "ours judges no n-grams in fewer than 50 words, and no lines or paragraphs where there are fewer than 5",
    "signs": "datatrove's words include punctuation, so rulers, dotted lines and brackets are phrases",
    "twice": "ours asks the commonest phrase to stand there three times",
    "words": "datatrove's words are of one letter case, in Chinese those of jieba; ours are small, or characters",
    "runs": "datatrove counts a repeated run in multiples of n, ours to its end",
}


@dataclass(frozen=True)
class Verdict:
    """The rules that a document breaks, None where it is kept; a key of REASONS where only one removes it."""

    ours: str | None
    theirs: str | None
    because: str | None


@cache
def datatrove(module: str) -> Any:
    """A module of it."""
    return importlib.import_module(f"datatrove.{module}")


def judge(text: str, language: str) -> Verdict:
    """What both say of a document."""
    found = repetition.find(text, units.split(text), 1.0)
    document = datatrove("data").Document(text=text, id="")
    kept = datatrove(RULES).GopherRepetitionFilter(language=language).filter(document)
    ours, other = found and found[0], None if kept is True else str(kept[1])
    because = None
    if ours and not other:
        because = _surplus(text, ours)
    elif other and not ours:
        because = _missed(text, other, language)
    return Verdict(ours, other, because)


def _missed(text: str, rule: str, language: str) -> str:
    """Why only datatrove removes a document, by its rule."""
    if "gram" not in rule:
        border = "\n\n" if "para" in rule else "\n"
        few = sum(bool(part.strip()) for part in text.split(border)) < repetition.FEWEST_LINES
        return "short" if few else "unexplained"
    if len(units.split(text)) < repetition.FEWEST_UNITS:
        return "short"
    theirs, n = datatrove(RULES), int("".join(filter(str.isdigit, rule)))
    found = datatrove("utils.text").split_into_words(text, language)
    words = [word for word in found if any(map(str.isalnum, word))]
    if rule.startswith("top"):
        rows = theirs.get_n_grams(words, n)
        if theirs.find_top_duplicate(rows) <= repetition.TOP_NGRAMS[n] * len(text):
            return "signs"
        return "twice" if Counter(rows).most_common(1)[0][1] == 2 else "words"
    return "signs" if theirs.find_all_duplicate(words, n) <= repetition.REPEATED_NGRAMS[n] * len(text) else "words"


def _surplus(text: str, rule: str) -> str:
    """Why only ours removes a document, by our rule: datatrove's own functions, on our words."""
    theirs, words = datatrove(RULES), units.split(text)
    factor = repetition.HAN_FACTOR if units.han_share(words) > 0.5 else 1.0
    if rule == "top n-gram":
        tops = (
            theirs.find_top_duplicate(theirs.get_n_grams(words, round(n * factor))) > limit * len(text)
            for n, limit in repetition.TOP_NGRAMS.items()
        )
        return "words" if any(tops) else "unexplained"
    if rule != "repeated n-grams":
        return "unexplained"
    repeats = (
        theirs.find_all_duplicate(words, round(n * factor)) > limit * len(text)
        for n, limit in repetition.REPEATED_NGRAMS.items()
    )
    return "words" if any(repeats) else "runs"


def main(language: str, *names: str) -> None:
    """Compare on each file."""
    for name in names:
        texts = [json.loads(line)["text"] for line in Path(name).read_text(encoding="utf-8").splitlines()]
        verdicts = [judge(text, language) for text in texts]
        counts = Counter((verdict.ours is not None, verdict.theirs is not None) for verdict in verdicts)
        print(
            f"{Path(name).name}: {len(texts)} documents; kept by both {counts[False, False]}, removed by both "
            f"{counts[True, True]}, only by ours {counts[True, False]}, only by datatrove {counts[False, True]}"
        )
        for (only, because), number in Counter(
            ("ours" if verdict.ours else "datatrove", verdict.because) for verdict in verdicts if verdict.because
        ).most_common():
            print(f"  {number} only by {only}: {REASONS.get(because, because)}")
        for number, (text, verdict) in enumerate(zip(texts, verdicts, strict=True), 1):
            if verdict.because:
                shown = " ".join(text[:100].split())
                print(f"  line {number}: {verdict.ours} | {verdict.theirs} | {verdict.because}: {shown}")


if __name__ == "__main__":
    main(*sys.argv[1:])
