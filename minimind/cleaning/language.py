"""What a document is written in, by share of its letters: Chinese, English, other.

The script decides for all but Latin letters; those go to py3langid (a naive Bayes classifier over byte n-grams that
comes with its model: 6 MB/s on one core), which is asked only where it has enough of them to judge by.
"""

import re

import py3langid

from minimind.cleaning.units import HAN, narrow

_HAN, _KANA = re.compile(f"[{HAN}]"), re.compile("[\u3041-\u30ff\u31f0-\u31ff]")
_LETTER, _LATIN = re.compile(r"[^\W\d_]"), re.compile("[A-Za-z\u00c0-\u024f]")
_WORDS = re.compile("[A-Za-z\u00c0-\u024f'’]+")
FEWEST_LATIN = 60  # letters; below, the classifier guesses, and English is given the benefit of the doubt
MOST_LATIN = 2000  # characters that are shown to the classifier
JAPANESE = 0.1  # of kana among Han and kana
# Those that much text of the web is in: the fewer there are, the less often code and formulas are taken for one.
LATIN = "en de fr es it pt nl sv da no pl cs ro hu fi tr id ms vi la"
py3langid.set_languages(LATIN.split())


def shares(text: str) -> dict[str, float]:
    """{"zh", "en", "other"} → share of the letters, all 0 without letters; full-width ones are as the ordinary."""
    text = narrow(text)
    letters, han, kana = (len(pattern.findall(text)) for pattern in (_LETTER, _HAN, _KANA))
    if not letters:
        return {"zh": 0.0, "en": 0.0, "other": 0.0}
    latin = len(_LATIN.findall(text))
    zh = 0 if kana > JAPANESE * (han + kana) else han
    en = latin if latin < FEWEST_LATIN or _is_english(text) else 0
    return {"zh": zh / letters, "en": en / letters, "other": max(0, letters - zh - en) / letters}


def _is_english(text: str) -> bool:
    sample = " ".join(_WORDS.findall(text[: 4 * MOST_LATIN]))[:MOST_LATIN]
    return bool(py3langid.classify(sample)[0] == "en")
