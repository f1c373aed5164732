"""Every working and every answer is right, recomputed from the question's text alone."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from minimind.atlas import questions
from minimind.atlas.conversations import converse
from minimind.atlas.facts import COUNTRIES, LANGUAGES, RELATIONS, VALUES
from minimind.atlas.families import DRAWS
from minimind.atlas.wording import ANSWERS, REFUSALS
from minimind.chat import Conversation, Template
from minimind.random import Random
from minimind.tokenizer import CHAT_TEMPLATE
from minimind.verify import is_call, verify

Record = dict[str, Any]


def exercises(training: dict[str, list[Record]], family: str) -> Iterator[tuple[str, Record]]:
    """The last question and the answer of every conversation of a family."""
    found = [record["conversations"] for record in training["sft"] if record["family"] == family]
    assert len(found) > 500
    for messages in found:
        yield messages[-2]["content"], messages[-1]


def evaluate(expression: str) -> int:
    assert re.fullmatch(r"[\d+*-]+", expression)
    return int(eval(re.sub(r"\b0+(?=\d)", "", expression)))


@pytest.mark.parametrize("family", ["arithmetic", "word"])
def test_columns_add_up(family: str, training: dict[str, list[Record]]) -> None:
    for _, answer in exercises(training, family):
        *_, expression, ones, tens, value = answer["reasoning_content"].split("\n")
        for line in (ones, tens):
            left, right = line.split("=")
            assert evaluate(left) == int(right)
        a, sign, b = re.fullmatch(r"(\d\d)([+-])(\d\d)", expression).groups()  # type: ignore[union-attr]
        assert int(value) == evaluate(expression) >= 0
        ones_value, tens_value = int(ones.split("=")[1]), int(tens.split("=")[1])
        assert int(value) == 10 * tens_value + ones_value % 10
        carry = int(tens.split("=")[0][-1])
        assert carry == (ones_value > 9 if sign == "+" else a[1] < b[1])
        assert (ones[-len(ones) :].split(sign)[0])[-1] == a[1]
        assert tens.startswith(f"{a[0]}{sign}{b[0]}{sign}")


def test_sums_are_answered(training: dict[str, list[Record]]) -> None:
    for question, answer in exercises(training, "arithmetic"):
        expression = re.search(r"\d+[+-]\d+", question)[0]  # type: ignore[index]
        assert answer["content"] == f"{expression}={evaluate(expression)}"


def test_word_problems_are_answered(training: dict[str, list[Record]]) -> None:
    signs = set()
    for question, answer in exercises(training, "word"):
        a, b = map(int, re.findall(r"\d+", question))
        if match := re.search(r"Today (\w+) has", question):
            person = match[1]
            gains = f"{person} gets" in question or f"{person} finds" in question
        else:
            person = re.search(r"今天(..)有", question)[1]  # type: ignore[index]
            gains = "得到" in question or f"{person}捡到" in question
        signs.add(gains)
        assert int(re.search(r"\d+", answer["content"])[0]) == (a + b if gains else a - b)  # type: ignore[index]
        assert person in answer["content"]
    assert signs == {True, False}


def test_comparisons_are_answered(training: dict[str, list[Record]]) -> None:
    for question, answer in exercises(training, "comparison"):
        a, b = map(int, re.findall(r"\d+", question))
        assert [int(x) for x in re.findall(r"\d+", answer["content"])] == [max(a, b)]
        restated, *steps = answer["reasoning_content"].split("\n")
        assert restated == f"{a:03d} {b:03d}"
        first, second = restated.split()
        for place, step in enumerate(steps):
            assert step[0] + step[2] == first[place] + second[place]
            assert step[1] == ("=" if step[0] == step[2] else "<" if step[0] < step[2] else ">")
        assert [step[1] == "=" for step in steps] == [True] * (len(steps) - 1) + [False]


def test_lists_are_answered(training: dict[str, list[Record]]) -> None:
    operations = set()
    for question, answer in exercises(training, "list"):
        asked, text = re.split(r"[:：] ?", question, maxsplit=1)
        words = re.split("[ 、]", text)
        assert 3 <= len(words) == len(set(words)) <= 5
        assert re.findall(r"\d ?(.+)", answer["reasoning_content"]) == words
        content = answer["content"]
        result = re.split("[ 、]", re.split(r"[:：] ?", content, maxsplit=1)[-1])
        if re.search("backwards|Reverse|倒", asked):
            operations.add("reverse")
            assert result == words[::-1]
        elif re.search("Repeat|重复|跟我读", asked):
            operations.add("repeat")
            assert result == words
        elif re.search("last|最后", asked):
            operations.add("last")
            assert re.search(r"(\w+?)[.。]$", content.replace("最后一个词是", ""))[1] == words[-1]  # type: ignore[index]
        else:
            operations.add("count")
            assert re.findall(r"\d+", content) == [str(len(words))]
    assert len(operations) == 4


def test_stories_are_understood(training: dict[str, list[Record]]) -> None:
    hidden = 0
    for question, answer in exercises(training, "reading"):
        story, asked = question.split("\n")
        place: dict[str, str] = {}
        holder: dict[str, str] = {}
        for sentence in re.split(r"[.。] ?", re.split("[:：] ?", story)[1])[:-1]:
            if move := re.fullmatch(r"(\w+) (?:went|walked) to the (\w+)|(..)(?:去了|来到)(..)", sentence):
                person, where = filter(None, move.groups())
                place[person] = where
            else:
                taken = re.fullmatch(r"(\w+) took the (\w+)|(..)拿起了(..)", sentence)
                person, thing = filter(None, taken.groups())  # type: ignore[union-attr]
                holder[thing] = person
        subject = re.search(r"where is (?:the )?(\w+)|[:：](..)在哪里", asked)
        name = next(filter(None, subject.groups()))  # type: ignore[union-attr]
        hidden += name in holder
        where = place[holder.get(name, name)]
        assert re.fullmatch(rf"Now (the )?{name} is in the {where}\.|现在{name}在{where}。", answer["content"])
        thought = answer["reasoning_content"]
        assert re.split(r"[:：。.] ?", thought)[-2] in story  # the last move, word for word
        assert where in thought
    assert hidden > 300


def test_tools_are_called_and_their_results_told(training: dict[str, list[Record]]) -> None:
    names = set()
    for record in training["sft"]:
        if record["family"] == "tool":
            _, asked, calls, result, answer = record["conversations"]
            (call,) = json.loads(calls["tool_calls"])
            names.add(call["name"])
            (argument,) = call["arguments"].values()
            assert argument in asked["content"]
            assert result["content"] in answer["content"]
            if call["name"] == "calculator":
                assert asked["content"].endswith(argument)
                assert len(argument) == 6
                assert evaluate(argument) == int(result["content"])
    assert names == {"calculator", "weather", "clock"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_answers_to_facts_are_judged_by_content_and_language(language: Any) -> None:
    random = Random("answers")
    for country in COUNTRIES:
        for relation in RELATIONS:
            spec = questions.contains(country, relation, language)
            for style in ("clean", "terse", "rambling"):
                assert verify(spec, questions.answer(random, country, relation, language, style))
            assert not verify(spec, questions.answer(random, country, relation, language, "foreign"))
            assert not verify(spec, REFUSALS[language])
            right = country.facts[relation][language]
            wrong = random.choice([value for value in VALUES[relation][language] if value not in right])
            sentence = ANSWERS[language][relation].format(c=country.name[language], a=wrong)
            assert not verify(spec, sentence), sentence


def test_benchmark_accepts_its_own_answers(benchmarks: dict[str, list[Record]]) -> None:
    for item in [item for items in benchmarks.values() for item in items]:
        if "clean" in item:
            assert verify(item["verify"], item["clean"])
            assert not any(verify(item["verify"], phrase) for phrase in item["refusals"])
        if item["family"] == "refuse":
            assert verify(item["verify"], REFUSALS[item["language"]])
        if item["kind"] == "tool":
            text = f"<tool_call>{json.dumps(item['call'], ensure_ascii=False)}</tool_call>"
            assert is_call(text, item["call"])
            assert item["result"] in item["verify"]["value"]
            assert item["call"]["name"] in {tool["function"]["name"] for tool in item["tools"]}


def test_a_prompt_is_the_beginning_of_its_conversation() -> None:
    template = Template(CHAT_TEMPLATE)
    for family, draw in DRAWS.items():
        for language in LANGUAGES:
            exercise = draw(Random(f"{family}/{language}"), language, "test" if family == "heldout" else "train")
            whole = template.segments(Conversation.of(converse(exercise)))
            asked = Conversation.of(exercise.messages, exercise.tools)
            prompt = template.segments(asked, add_generation_prompt=True)
            texts = ["".join(segment.text for segment in segments) for segments in (whole, prompt)]
            assert texts[0].startswith(texts[1])


def test_preferred_answers_are_right(training: dict[str, list[Record]]) -> None:
    names = [country.name[language] for country in COUNTRIES for language in LANGUAGES]
    for record in training["dpo"]:
        refused = record["chosen"][1]["content"] in REFUSALS.values()
        exists = any(name in record["chosen"][0]["content"] for name in names)
        assert refused == (record["flaw"] == "invention") == (not exists)


def test_prompts_carry_their_verifier(training: dict[str, list[Record]]) -> None:
    for record in training["prompts"]:
        assert record["messages"][-1]["role"] in ("user", "tool")
        assert record["verify"]["kind"] in ("exact", "contains", "refusal", "call")
        assert ("tools" in record) == (record["family"] == "tool")
