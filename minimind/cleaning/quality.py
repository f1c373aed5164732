"""Heuristics that tell prose from lists, menus and tables.

Sources: Gopher (arXiv:2112.11446, appendix A.1.1: quality filters), C4 (arXiv:1910.10683,
section 2.2: terminal punctuation), and FineWeb (arXiv:2406.17557, section 3.6), which asks a document for a share of
lines that end as sentences do, where C4 dropped each line that does not.

For Chinese a unit is a Han character instead of a word. The rules on the length of words apply to spaced text only;
ends of sentences and stop words are Chinese too, classical ones among them. Short documents are not judged by what only
long ones show: Gopher drops documents below 50 words, here the limit is `clean.min_characters`.
"""

from collections.abc import Sequence

from minimind.cleaning import units
from minimind.cleaning.settings import CleanConfig

FEWEST_UNITS = 50  # to judge stop words and words by
FEWEST_LINES = 5  # to judge them by
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
