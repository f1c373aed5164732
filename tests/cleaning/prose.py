"""Prose that breaks no rule, in both languages, of drawn words."""

import random

DRAWN = random.Random(1)
WORDS = [f"{a}{b}" for a in "bdfghjklmn" for b in ("ado", "ibe", "uce", "ony", "ash", "ert", "ilk", "oam")]
PROSE = "\n\n".join(" ".join(["The", "cat", "of", *DRAWN.choices(WORDS, k=25)]) + "." for _ in range(6))
CHINESE = "\n\n".join(
    "这是" + "".join(chr(DRAWN.randrange(0x4E00, 0x8000)) for _ in range(60)) + "。" for _ in range(6)
)
VERSES = PROSE.split("\n\n")
