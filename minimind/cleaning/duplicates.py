"""Documents that stand in a data set twice, to the letter or nearly; the first in the order of files and lines stays.

Near duplicates: MinHash (Broder 1997) by rensa over the set of five units in a row, bands of the signature to find
candidates, and their estimated Jaccard similarity to decide, as Lee et al. do (arXiv:2107.06499). Of a signature a
byte for each permutation is kept (b-bit minwise hashing, arXiv:0910.3349). In memory is nothing of the texts: about
100 bytes for each different document, and 1.4 kB more where near duplicates are looked for.
"""

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash, RMinHashLSH

from minimind.cleaning import units

SHINGLE = 5  # units
PERMUTATIONS, SEED = 128, 1
BANDS = (16, 32, 64)  # of the signature; more of them find what is less alike, and more that is not
SHARING = 0.9  # of the documents of just the similarity that counts share a band, or more
CHANCE = 1 / 256  # that bytes of different minima agree

Digest = bytes


def digest(identity: bytes) -> Digest:
    """16 bytes that stand for a text."""
    return blake2b(identity, digest_size=16).digest()


def signatures(documents: Sequence[Sequence[str]]) -> list[RMinHash | None]:
    """Of rows of units; None where one is shorter than a shingle."""
    shingles = []
    for document in documents:
        raw = np.unique(units.ngrams(units.hashes(document), SHINGLE)).tobytes()
        shingles.append([raw[start : start + 8] for start in range(0, len(raw), 8)])
    computed = iter(RMinHash.from_token_sets([row for row in shingles if row], PERMUTATIONS, SEED))
    return [next(computed) if row else None for row in shingles]


def bands(similarity: float) -> int:
    """The fewest bands of which documents of this similarity share one with a probability of SHARING."""
    enough = (number for number in BANDS if 1 - (1 - similarity ** (PERMUTATIONS // number)) ** number >= SHARING)
    return next(enough, BANDS[-1])


class Exact:
    """Remembers documents; says where an equal one stood before."""

    def __init__(self) -> None:
        self.seen: dict[Digest, int] = {}

    def find(self, number: int, key: Digest) -> int | None:
        """The number of the first document with this digest, if it is not this one."""
        first = self.seen.setdefault(key, number)
        return None if first == number else first


class Near:
    """Likewise for documents whose similarity is estimated at `similarity` or more."""

    def __init__(self, similarity: float):
        self.similarity = similarity
        self.index = RMinHashLSH(similarity, PERMUTATIONS, bands(similarity))
        self.kept: dict[int, NDArray[np.uint8]] = {}

    def find(self, number: int, signature: RMinHash) -> tuple[int, float] | None:
        """The first of the similar documents, and how similar; else this one is remembered."""
        own = np.array(signature.digest(), dtype=np.uint32).astype(np.uint8)
        for other in sorted(self.index.query(signature)):
            agreement = float((own == self.kept[other]).mean())
            if (estimate := (agreement - CHANCE) / (1 - CHANCE)) >= self.similarity:
                return other, estimate
        self.index.insert(number, signature)
        self.kept[number] = own
        return None
