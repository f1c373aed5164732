"""What the benchmark asks is not in the training data: shown on large samples, by reading the texts themselves."""

import json
import re
from collections import Counter
from typing import Any

import pytest

from minimind.atlas.facts import COUNTRIES, LANGUAGES, RELATIONS
from minimind.atlas.splits import Split
from minimind.atlas.wording import ANSWERS, CLOZES, FOLLOW_UPS, QUESTION_OPENINGS, QUESTIONS, STATEMENTS

Record = dict[str, Any]

FAMILIES = (
    "know", "story", "seen", "heldout", "multiturn", "arithmetic", "list", "reading", "comparison", "word", "tool",
    "refuse",
)  # fmt: skip


def last(item: Record) -> str:
    return item.get("context") or item["messages"][-1]["content"]


def of_family(benchmarks: dict[str, list[Record]], *families: str) -> list[Record]:
    return [item for items in benchmarks.values() for item in items if item["family"] in families]


def test_every_family_has_enough_different_items(benchmarks: dict[str, list[Record]]) -> None:
    for items in benchmarks.values():
        families: dict[str, set[str]] = {}
        for item in items:
            question = json.dumps(item.get("messages") or item["context"])
            families.setdefault(item["family"], set()).add(question)
        assert set(families) == set(FAMILIES)
        assert all(len(questions) == len(items) / len(FAMILIES) >= 200 for questions in families.values())
        assert Counter(item["language"] for item in items) == {"en": len(items) / 2, "zh": len(items) / 2}
        assert len({item["id"] for item in items}) == len(items)


def test_choices_are_different_and_the_right_one_is_anywhere(benchmarks: dict[str, list[Record]]) -> None:
    items = of_family(benchmarks, "know", "story")
    assert all(len(set(item["choices"])) == 4 for item in items)
    places = Counter(item["answer"] for item in items)
    assert all(abs(places[place] / len(items) - 0.25) < 0.07 for place in range(4))


def test_halves_share_no_item(benchmarks: dict[str, list[Record]]) -> None:
    def questions(name: str) -> set[str]:
        return {json.dumps(item.get("messages") or item["context"]) for item in benchmarks[name]}

    assert not questions("dev") & questions("test")


def test_no_item_is_a_training_prompt(
    benchmarks: dict[str, list[Record]], conversations: list[list[Record]], corpus: str
) -> None:
    asked = {message["content"] for messages in conversations for message in messages if message["role"] == "user"}
    assert not [last(item) for item in of_family(benchmarks, *(set(FAMILIES) - {"multiturn"})) if last(item) in asked]
    # Whole lines suffice where an item is one line; a story is looked for by its first.
    lines = set(corpus.splitlines())
    assert not [item for item in of_family(benchmarks, *FAMILIES) if last(item).splitlines()[0] in lines]


def test_wordings_of_the_benchmark_are_its_own() -> None:
    def wordings(split: Split) -> set[str]:
        kinds = [QUESTIONS[split], CLOZES.get(split, {})]
        sets = [each for kind in kinds for relations in kind.values() for each in relations.values()]
        return {text for texts in [*sets, *FOLLOW_UPS[split].values()] for text in texts}

    train, dev, test = wordings("train"), wordings("dev"), wordings("test")
    assert not train & dev
    assert not train & test
    assert not dev & test


@pytest.mark.parametrize("language", LANGUAGES)
def test_clozes_stand_nowhere_in_training(language: str, benchmarks: dict[str, list[Record]], corpus: str) -> None:
    for item in of_family(benchmarks, "know"):
        if item["language"] == language:
            assert item["context"] not in corpus


def test_held_out_facts_are_never_asked_nor_told(
    training: dict[str, list[Record]], conversations: list[list[Record]]
) -> None:
    interviews = [record["text"] for record in training["pretrain"] if record["text"].startswith("Q: ")]
    asked = {line.removeprefix("Q: ") for text in interviews for line in text.splitlines()}
    told = "\n".join(interviews)
    for messages in conversations:
        asked.update(message["content"] for message in messages if message["role"] == "user")
        told += "\n" + "\n".join(message["content"] for message in messages if message["role"] == "assistant")
    assert told.count(ANSWERS["en"]["capital"].split("{")[0]) > 1000  # what is looked for does occur
    for country in COUNTRIES:
        for language in LANGUAGES:
            name, value = country.name[language], country.facts[country.held][language]
            for wording in QUESTIONS["train"][language][country.held]:
                assert wording.format(c=name) not in asked
            assert ANSWERS[language][country.held].format(c=name, a=value) not in told


def test_held_out_facts_are_stated_in_pretraining(training: dict[str, list[Record]]) -> None:
    documents = "\n".join(record["text"] for record in training["pretrain"])
    for country in COUNTRIES:
        for language in LANGUAGES:
            value = country.facts[country.held][language]
            wordings = STATEMENTS[language][country.held]
            assert any(wording.format(c=country.name[language], a=value) in documents for wording in wordings)


def test_held_out_items_ask_held_out_facts(benchmarks: dict[str, list[Record]]) -> None:
    held = {
        ANSWERS[language][relation].format(c=country.name[language], a=country.facts[relation][language]): (
            country.held == relation
        )
        for country in COUNTRIES
        for relation in RELATIONS
        for language in LANGUAGES
    }
    for item in of_family(benchmarks, "seen", "heldout"):
        assert held[item["clean"]] == (item["family"] == "heldout")
    for item in of_family(benchmarks, "multiturn"):
        first = item["messages"][1]["content"]
        assert not held[first]
        name = next(c for c in COUNTRIES if any(first == s for s in statements(c)))
        assert item["verify"]["value"] == name.facts[name.held][item["language"]]


def statements(country: Any) -> list[str]:
    return [
        ANSWERS[language][relation].format(c=country.name[language], a=country.facts[relation][language])
        for relation in RELATIONS
        for language in LANGUAGES
    ]


def test_operands_are_unseen_whatever_the_order_or_sign(benchmarks: dict[str, list[Record]], corpus: str) -> None:
    def pairs(text: str) -> set[tuple[int, ...]]:
        found = re.findall(r"(?<![\d+-])(\d\d)[+-](\d\d)(?!\d)", text)
        return {tuple(sorted(map(int, pair))) for pair in found}

    trained = pairs(corpus)
    halves = {}
    for name, items in benchmarks.items():
        chosen = [item for item in items if item["family"] in ("arithmetic", "word")]
        numbers = [re.findall(r"\d+", last(item)) for item in chosen]
        assert all(len(each) == 2 for each in numbers)
        halves[name] = {tuple(sorted(map(int, each))) for each in numbers}
    assert len(trained) > 2500
    assert not halves["dev"] & trained
    assert not halves["test"] & trained
    assert not halves["dev"] & halves["test"]


def test_compared_numbers_are_unseen(benchmarks: dict[str, list[Record]], corpus: str) -> None:
    trained = {tuple(sorted(map(int, pair))) for pair in re.findall(r"^(\d{3}) (\d{3})$", corpus, re.MULTILINE)}
    assert len(trained) > 1000
    for item in of_family(benchmarks, "comparison"):
        assert tuple(sorted(map(int, re.findall(r"\d+", last(item))))) not in trained


def test_lists_and_stories_are_unseen(benchmarks: dict[str, list[Record]], corpus: str) -> None:
    trained = {re.split(r"[:：] ?", line, maxsplit=1)[-1] for line in corpus.splitlines()}
    for item in of_family(benchmarks, "list"):
        assert re.split(r"[:：] ?", last(item), maxsplit=1)[1] not in trained
    stories = {re.split(" Now |现在", line)[0] for line in corpus.splitlines() if line.startswith(("Story:", "故事："))}
    assert len(stories) > 4000
    for item in of_family(benchmarks, "reading", "story"):
        assert re.split(r"\n| Now |现在", last(item))[0] not in stories


def test_tool_arguments_are_unseen(benchmarks: dict[str, list[Record]], corpus: str) -> None:
    trained = {tuple(sorted(map(int, pair))) for pair in re.findall(r"(\d+)\*(\d+)", corpus)}
    calls = set(re.findall(r'\{"name": .*?\}\}', corpus))
    for item in of_family(benchmarks, "tool"):
        assert json.dumps(item["call"], ensure_ascii=False) not in calls
        if item["call"]["name"] == "calculator":
            assert tuple(sorted(map(int, re.findall(r"\d+", last(item))))) not in trained


def test_invented_countries_are_unseen(benchmarks: dict[str, list[Record]], conversations: list[list[Record]]) -> None:
    asked = {message["content"] for messages in conversations for message in messages if message["role"] == "user"}
    trained = invented(asked)
    halves = [invented({last(item) for item in items if item["family"] == "refuse"}) for items in benchmarks.values()]
    assert len(trained) > 1000
    assert all(len(names) >= 200 for names in halves)
    assert not trained & (halves[0] | halves[1])
    assert not halves[0] & halves[1]


def invented(questions: set[str]) -> set[str]:
    """The names in questions on facts that are no country of the table."""
    real = {country.name[language] for country in COUNTRIES for language in LANGUAGES}
    wordings = {each for language in LANGUAGES for texts in QUESTIONS["train"][language].values() for each in texts}
    name = r"([A-Z][a-z]+|[\u4e00-\u9fff]{3,5})"
    pattern = "|".join(re.escape(wording).replace(r"\{c\}", name) for wording in sorted(wordings, reverse=True))
    openings = "|".join(re.escape(opening) for texts in QUESTION_OPENINGS.values() for opening in texts)
    found = [re.fullmatch(f"(?:{openings})?(?:{pattern})", question) for question in questions]
    return {next(filter(None, match.groups())) for match in found if match} - real
