"""The rhyme book, checked on what every handbook says of it, and on what poets did."""

from minimind.poetry import rhymes
from minimind.poetry.anthology import Anthology


def test_the_thirty_level_tone_rhymes_are_there() -> None:
    assert "".join(rhymes.characters()) == "东冬江支微鱼虞齐佳灰真文元寒删先萧肴豪歌麻阳庚青蒸尤侵覃盐咸"
    assert min(map(len, rhymes.characters().values())) > 20


def test_characters_rhyme_as_they_did_then() -> None:
    assert rhymes.shared("深心金簪") == "侵"
    assert rhymes.shared("东红风") == "东"
    assert rhymes.shared("东冬") is None  # alike today, apart then
    assert rhymes.shared("光去") is None  # an oblique tone
    assert rhymes.shared("") is None


def test_poets_kept_to_them(poems: Anthology) -> None:
    regular = [poem for group in poems.regular["train"].values() for poem in group]
    assert sum(poem.rhyme is not None for poem in regular) > 0.8 * len(regular)
