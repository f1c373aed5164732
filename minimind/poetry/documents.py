"""Poems as documents for pretraining, with a heading or a signature."""

from typing import Any

from minimind.poetry.poems import Poem
from minimind.random import Random

SIGNED_PERCENT = 30  # end with who wrote it, from which authors can be told by their poems; the others begin so


def heading(poem: Poem) -> str:
    """What stands above a poem."""
    return f"《{poem.title}》{poem.author}\n{poem.kind}\n" if poem.title else f"{poem.author}\n{poem.kind}\n"


def document(poem: Poem, seed: int) -> dict[str, Any]:
    """{"text"}, the same one for the same seed."""
    if Random(f"pretrain/{seed}/{poem.text}").chance(SIGNED_PERCENT):
        return {"text": f"{poem.text}\n——{poem.author}" + (f"《{poem.title}》" if poem.title else "")}
    return {"text": heading(poem) + poem.text}
