"""Heuristics that tell prose from lists, menus and loops.

Sources: Gopher (arXiv:2112.11446, appendix A.1.1: quality filters; table A1: repetition), C4 (arXiv:1910.10683,
section 2.2: terminal punctuation), and FineWeb (arXiv:2406.17557, section 3.6), which asks a document for a share of
lines that end as sentences do, where C4 dropped each line that does not.

For Chinese a unit is a Han character instead of a word. A word is some 1.5 characters, so n-grams are 1.5 times as
long; the rules on the length of words apply to spaced text only; ends of sentences and stop words are Chinese too,
classical ones among them. Shares of n-grams are counted in units rather than letters. Short documents are not judged
by what only long ones show: Gopher drops documents below 50 words, here the limit is `clean.min_characters`.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from minimind.cleaning import units
from minimind.cleaning.settings import CleanConfig

FEWEST_UNITS = 50  # to judge stop words, words and n-grams by
FEWEST_LINES = 5  # or paragraphs, to judge them by
HAN_FACTOR = 1.5  # characters of Han for a word
REPEATED_PARTS, REPEATED_CHARACTERS = 0.30, 0.20  # lines and paragraphs; Gopher, table A1
TOP_NGRAMS = {2: 0.20, 3: 0.18, 4: 0.16}
REPEATED_NGRAMS = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}
WORD_LENGTHS = (3.0, 10.0)  # Gopher, A.1.1, as all below
LEAST_ALPHABETIC, MOST_BULLETS, MOST_ELLIPSES = 0.8, 0.9, 0.3

STOP_WORDS = {
    "en": frozenset(["the", "be", "to", "of", "and", "that", "have", "with"]),  # Gopher's
    "zh": frozenset("的了是不在有人我他这這一个個就和也说說到你中为為之而其以于於无無曰者所"),
}
BULLETS = ("-", "*", "•", "·", "●", "■", "◆", "►", "–")
ELLIPSES = ("...", "…")
ENDS = tuple(".!?…。！？；：:;\"'”’」』）)】》~～")


def find(text: str, words: Sequence[str], config: CleanConfig) -> tuple[str, str] | None:
    """The rule that a document breaks, and by how much; None if it breaks none. `words`: its units."""
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if len(lines) >= FEWEST_LINES:
        if (share := sum(line.startswith(BULLETS) for line in lines) / len(lines)) > MOST_BULLETS:
            return "bullets", f"{share:.0%} of the lines"
        if (share := sum(line.endswith(ELLIPSES) for line in lines) / len(lines)) > MOST_ELLIPSES:
            return "ellipses", f"{share:.0%} of the lines"
        if (share := sum(line.endswith(ENDS) for line in lines) / len(lines)) < config.min_terminal_share:
            return "line ends", f"{share:.0%} of the lines end as sentences do"
    if len(words) < FEWEST_UNITS:
        return None
    signs = text.count("#") + text.count("…") + text.count("...")
    if (share := signs / len(words)) > config.max_symbol_share:
        return "symbols", f"{share:.2f} for each word"
    alphabetic = sum(any(letter.isalpha() for letter in word) for word in words) / len(words)
    if alphabetic < LEAST_ALPHABETIC:
        return "alphabetic words", f"{alphabetic:.0%} of the words have a letter"
    han = units.han_share(words) > 0.5
    if not han:
        spaced = [word for word in words if not units.is_han(word)]
        mean = sum(map(len, spaced)) / max(1, len(spaced))
        if not WORD_LENGTHS[0] <= mean <= WORD_LENGTHS[1]:
            return "word length", f"{mean:.1f} letters on average"
    found = STOP_WORDS["zh" if han else "en"].intersection(words)
    if len(found) < config.min_stop_words:
        return "stop words", f"{len(found)} different ones"
    return None


def find_repetition(text: str, words: Sequence[str], scale: float) -> tuple[str, str] | None:
    """Likewise for what Gopher's table A1 measures; its thresholds are multiplied by `scale`."""
    for kind, border in (("lines", "\n"), ("paragraphs", "\n\n")):
        parts = [part.strip() for part in text.split(border) if part.strip()]
        if len(parts) < FEWEST_LINES:
            continue
        again = [part for part, count in Counter(parts).items() for _ in range(count - 1)]
        if (share := len(again) / len(parts)) > REPEATED_PARTS * scale:
            return f"repeated {kind}", f"{share:.0%} of the {kind}"
        if (share := sum(map(len, again)) / sum(map(len, parts))) > REPEATED_CHARACTERS * scale:
            return f"repeated {kind}", f"{share:.0%} of the characters"
    if len(words) < FEWEST_UNITS:
        return None
    factor = HAN_FACTOR if units.han_share(words) > 0.5 else 1.0
    hashed = units.hashes(words)
    for n, limit in TOP_NGRAMS.items():
        length = round(n * factor)
        most = int(np.unique(units.ngrams(hashed, length), return_counts=True)[1].max(initial=0))
        # A long name that occurs twice is a fifth of a short text.
        if most > 2 and (share := most * length / len(words)) > limit * scale:
            return "top n-gram", f"the commonest {length} in a row make up {share:.0%}"
    for n, limit in REPEATED_NGRAMS.items():
        length = round(n * factor)
        if (share := covered(units.ngrams(hashed, length), length)) > limit * scale:
            return "repeated n-grams", f"{length} in a row that occur again make up {share:.0%}"
    return None


def covered(grams: units.Hashes, length: int) -> float:
    """The share of a document's units that lie in an n-gram which occurs more than once."""
    if not len(grams):
        return 0.0
    _, inverse, counts = np.unique(grams, return_inverse=True, return_counts=True)
    starts = (counts[inverse] > 1).astype(np.int64)
    # A unit is covered if one of the n-grams that begin at it or up to length - 1 before it is.
    sums = np.concatenate(([0], np.cumsum(np.concatenate((starts, np.zeros(length - 1, dtype=np.int64))))))
    reach = np.arange(len(sums) - 1)
    return float((sums[reach + 1] - sums[np.maximum(0, reach + 1 - length)] > 0).mean())
