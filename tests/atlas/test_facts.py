import re
from collections import Counter

from minimind.atlas import facts
from minimind.atlas.facts import COUNTRIES, ELEMENTS, LANGUAGES, RELATIONS, VALUES

ENGLISH = re.compile(r"[A-Za-z]+(?:[ -][A-Za-z]+)*")
CHINESE = re.compile(r"[\u4e00-\u9fff]+")


def test_countries_and_elements_are_complete_and_distinct() -> None:
    assert len(COUNTRIES) == 80
    assert len(ELEMENTS) == 24
    for language in LANGUAGES:
        assert len({country.name[language] for country in COUNTRIES}) == 80
        assert len({country.facts["capital"][language] for country in COUNTRIES}) == 80
        assert len({element.name[language] for element in ELEMENTS}) == 24
    assert len({element.symbol for element in ELEMENTS}) == 24
    assert len({country.code for country in COUNTRIES}) == 80


def test_every_name_is_in_its_script() -> None:
    names = [country.name for country in COUNTRIES] + [element.name for element in ELEMENTS]
    names += [country.facts[relation] for country in COUNTRIES for relation in RELATIONS]
    for name in names:
        assert ENGLISH.fullmatch(name["en"]), name
        assert CHINESE.fullmatch(name["zh"]), name


def test_tables_are_sorted_and_every_row_is_used() -> None:
    countries = facts._rows(facts._COUNTRIES)
    assert [row[0] for row in countries] == sorted(row[0] for row in countries)
    for table, column in ((facts._CONTINENTS, 5), (facts._LANGUAGES, 6), (facts._CURRENCIES, 7)):
        codes = [row[0] for row in facts._rows(table)]
        assert codes == sorted(set(codes))
        assert set(codes) == {row[column] for row in countries}


def test_a_quarter_of_each_relation_is_held_out() -> None:
    assert Counter(country.held for country in COUNTRIES) == dict.fromkeys(RELATIONS, 20)
    for country in COUNTRIES:
        assert {country.held, *country.seen} == set(RELATIONS)
        assert len(country.seen) == 3


def test_disputed_capitals_are_left_out() -> None:
    assert not {country.code for country in COUNTRIES} & {"IL", "PS", "LK", "BJ", "TN", "SS", "MM", "BO", "TW", "XK"}


def test_multiple_choice_has_enough_values() -> None:
    assert all(len(VALUES[relation][language]) >= 4 for relation in RELATIONS for language in LANGUAGES)


def test_facts_that_everybody_knows() -> None:
    known = {
        "FR": ("Paris", "Europe", "French", "euro"),
        "JP": ("Tokyo", "Asia", "Japanese", "yen"),
        "BR": ("Brasilia", "South America", "Portuguese", "real"),
        "EG": ("Cairo", "Africa", "Arabic", "pound"),
        "AU": ("Canberra", "Oceania", "English", "dollar"),
        "CN": ("Beijing", "Asia", "Chinese", "yuan"),
    }
    countries = {country.code: country for country in COUNTRIES}
    for code, values in known.items():
        assert tuple(countries[code].facts[relation]["en"] for relation in RELATIONS) == values
