"""Every data set, from real poems: in its schema, disjoint from the benchmark, and right by its own verifier."""

import json
import re
from typing import Any

import pytest

from minimind.cleaning.decontamination import Index
from minimind.corpus import PARSERS
from minimind.poetry import benchmark, conversations, exercises, library, preferences
from minimind.poetry.anthology import Anthology, Split
from minimind.random import Random
from minimind.specification import check
from minimind.turns import ExhaustedError
from minimind.verify import verify
from minimind.verse import HAN, split

Record = dict[str, Any]


@pytest.fixture(scope="module")
def training(poems: Anthology) -> dict[str, list[Record]]:
    counts = {"pretrain": 0, "sft": 4000, "dpo": 1000, "prompts": 1000}
    return {name: list(library.generate(poems, name, count, 1)) for name, count in counts.items()}


@pytest.fixture(scope="module")
def benchmarks(poems: Anthology) -> dict[str, list[Record]]:
    return {name: list(library.generate(poems, name, 240, 1)) for name in ("dev", "test")}


def test_equal_seeds_give_equal_records(poems: Anthology, training: dict[str, list[Record]]) -> None:
    for name, records in training.items():
        assert list(library.generate(poems, name, 50, 1)) == records[:50]
        assert list(library.generate(poems, name, 50, 2)) != records[:50]


def test_records_have_the_schemas(training: dict[str, list[Record]]) -> None:
    for name, parse in PARSERS.items():
        for record in training[name]:
            parse(record)
    for record in training["prompts"]:
        check(record["verify"])


def test_every_poem_is_a_document_once(poems: Anthology, training: dict[str, list[Record]]) -> None:
    assert len(training["pretrain"]) == len(poems.splits["train"])
    assert len({record["text"] for record in training["pretrain"]}) == len(training["pretrain"])


def test_nothing_held_out_is_trained_on(poems: Anthology, training: dict[str, list[Record]]) -> None:
    text = json.dumps(training, ensure_ascii=False)
    lines = {line for part in ("dev", "test") for poem in poems.splits[part] for line in poem.lines}
    assert not [line for line in sorted(lines)[::20] if len(line) >= 5 and line in text]


def test_no_document_is_taken_for_an_item_of_the_benchmark(
    training: dict[str, list[Record]], benchmarks: dict[str, list[Record]]
) -> None:
    items = [item for part in benchmarks.values() for item in part]
    index = Index(items, 13, 20)  # as in profiles/poetry.yaml
    assert [text for record in training["pretrain"] if index.find([text := record["text"]])] == []


def test_a_poem_may_have_the_heading_of_one_that_is_asked_for(
    training: dict[str, list[Record]], benchmarks: dict[str, list[Record]]
) -> None:
    def heading(item: Record) -> str:
        return "\n".join(item["context"].split("\n")[:2])

    asked = max((item for item in benchmarks["dev"] if item["family"] == "next"), key=lambda item: len(heading(item)))
    document = f"{heading(asked)}\n{training['pretrain'][0]['text']}"
    whole = {name: value for name, value in asked.items() if name != "passages"}
    assert Index([whole], 13, 20).find([document]), "the heading is as long as a passage"
    assert Index([asked], 13, 20).find([document]) is None
    assert Index([asked], 13, 20).find([asked["context"] + asked["choices"][asked["answer"]]])


def test_lines_whose_poet_is_asked_for_are_asked_in_one_split_only(
    poems: Anthology, training: dict[str, list[Record]], benchmarks: dict[str, list[Record]]
) -> None:
    questions = {"train": [r["conversations"][0]["content"] for r in training["sft"] if r["family"] == "attribute"]}
    for part, items in benchmarks.items():
        questions[part] = [item["messages"][0]["content"] for item in items if item["family"] == "attribute"]
    # The line itself is what no wording has: of the runs of characters the one that stands in a poem.
    known = {line for poem in poems.famous for line in poem.lines}
    asked = {
        part: {run for text in found for run in re.findall(f"[{HAN}]+", text) if run in known}
        for part, found in questions.items()
    }
    assert all(asked.values())
    assert not asked["train"] & (asked["dev"] | asked["test"]) and not asked["dev"] & asked["test"]


def test_recalled_pairs_are_asked_in_one_split_only(
    training: dict[str, list[Record]], benchmarks: dict[str, list[Record]]
) -> None:
    taught = {r["conversations"][1]["content"] for r in training["sft"] if r["family"] == "recall"}
    read = "\n".join(record["text"] for record in training["pretrain"])
    asked = {
        part: {item["verify"]["value"] for item in items if item["family"] == "recall"}
        for part, items in benchmarks.items()
    }
    assert not asked["dev"] & asked["test"]
    for answers in asked.values():
        assert not answers & taught
        assert all(answer in read for answer in answers)


@pytest.mark.parametrize("family", conversations.DRAWS)
@pytest.mark.parametrize("split_name", ["train", "dev", "test"])
def test_answers_meet_their_own_verifier(poems: Anthology, family: str, split_name: Split) -> None:
    for number in range(100):
        exercise = conversations.DRAWS[family](Random(f"{family}/{number}"), poems, split_name)
        assert exercise.family == family
        assert verify(exercise.verify, exercise.answer), exercise


@pytest.mark.parametrize("flaw", preferences.FLAWS)
def test_flawed_answers_do_not(poems: Anthology, flaw: str) -> None:
    draw = preferences.EXERCISES.get(flaw, exercises.compose)
    for number in range(100):
        random = Random(f"{flaw}/{number}")
        exercise = draw(random, poems, "train")
        assert not verify(exercise.verify, preferences._spoil(random, poems, exercise, flaw)), exercise


def test_pairs_have_every_flaw(training: dict[str, list[Record]]) -> None:
    assert {record["flaw"] for record in training["dpo"]} == {*preferences.FLAWS}
    for record in training["dpo"]:
        assert record["chosen"][0] == record["rejected"][0]
        chosen, rejected = record["chosen"][1]["content"], record["rejected"][1]["content"]
        lengths = [{len(line) for line in split(text)} for text in (chosen, rejected)]
        if record["flaw"] in ("ragged", "length"):
            assert lengths[0] != lengths[1], record


def test_items_are_different_and_of_every_family(benchmarks: dict[str, list[Record]]) -> None:
    for part, items in benchmarks.items():
        assert {item["family"] for item in items} == {*benchmark.FAMILIES}
        asked = [json.dumps(item.get("messages") or item["context"], ensure_ascii=False) for item in items]
        assert len(set(asked)) == len(items)
        assert all(item["id"].startswith(part) for item in items)
        for item in items:
            if item["kind"] == "choice":
                assert len(set(item["choices"])) == 4
            assert ("sampled" in item) == (item["family"] == "compose")


def test_the_right_choice_continues_the_poem(poems: Anthology, benchmarks: dict[str, list[Record]]) -> None:
    texts = {part: [poem.text for poem in poems.splits[part]] for part in ("dev", "test")}
    for part, items in benchmarks.items():  # type: ignore[assignment]
        for item in items:
            if item["family"] == "next":
                told = item["context"].split("\n", 2)[2]
                fits = [any(text.startswith(told + choice) for text in texts[part]) for choice in item["choices"]]
                assert fits == [number == item["answer"] for number in range(4)]


def test_more_items_than_there_are_is_an_error(poems: Anthology) -> None:
    with pytest.raises(ExhaustedError, match=r"there are no \d+ different items of family .*: ask for fewer"):
        list(library.generate(poems, "dev", 20_000, 1))


def test_an_unknown_data_set_is_named(poems: Anthology) -> None:
    with pytest.raises(ValueError, match=r"no data set 'rlaif': use one of pretrain, sft, dpo, prompts, dev, test"):
        library.generate(poems, "rlaif", 1, 1)
