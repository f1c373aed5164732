"""Which items of a benchmark a text gives away."""

from pathlib import Path
from typing import Any

import pytest

from minimind.cleaning.decontamination import Index
from minimind.errors import UserError

WORDS = [f"word{number}" for number in range(100)]


def item(words: list[str], **more: object) -> dict[str, Any]:
    return {"id": words[0], "messages": [{"role": "user", "content": " ".join(words)}], **more}


def test_a_shared_passage_is_found_wherever_it_stands_and_a_short_item_as_a_whole_only() -> None:
    index = Index([item(WORDS[:30]), item(WORDS[50:55])], 13, 20)
    assert index.find([" ".join(["x", *WORDS[10:23], "y"])]) == f"word0: {' '.join(WORDS[10:23])}"
    assert index.find([" ".join(["x", *WORDS[10:22], "y"])]) is None
    assert index.find(["x", " ".join(WORDS[50:55])]) == f"word50: {' '.join(WORDS[50:55])}"
    assert index.find([" ".join(["x", *WORDS[50:55]])]) is None
    assert index.num_short == 1


def test_an_item_says_itself_which_passages_are_its_own() -> None:
    index = Index([item(WORDS[:40], passages=[" ".join(WORDS[20:40])])], 13, 20)
    assert index.find([" ".join(WORDS[:20])]) is None
    assert index.find([" ".join(WORDS[20:33])]) is not None


def test_every_turn_of_an_item_counts() -> None:
    turns = [{"role": "user", "content": " ".join(words)} for words in (WORDS[:20], WORDS[60:70])]
    index = Index([{"messages": [turns[0], {"role": "assistant", "content": "Yes."}, turns[1]]}], 13, 20)
    assert index.find([" ".join(WORDS[:15])]) is not None


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"choices": ["a"], "answer": 0}', '{"messages": [{"role": "user", "content": 1}]}']
)
def test_a_line_that_is_no_item_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "dev.jsonl").write_text('{"context": "a", "choices": ["b"], "answer": 0}\n' + line + "\n")
    with pytest.raises(UserError, match=r"dev.jsonl:2 is no item .* mend it at its source, which data.benchmark"):
        Index.read(tmp_path, 13, 20)


def test_an_item_is_short_if_all_its_texts_are() -> None:
    choice = {"context": "a b c ", "choices": ["d e", "f g"], "answer": 0}
    assert [Index([choice], length, 20).num_short for length in (5, 6)] == [0, 1]


REVIEWS = [
    "房间很干净", "早餐太咸了不好吃", "前台的小姑娘特别热情", "离地铁站走路五分钟", "空调半夜坏了没人来修",
    "床单上有头发", "老板送了我们一盘水果", "隔音差得能听见邻居打鼾", "窗外就是大海非常美", "电视只有三个台",
    "泳池的水有点浑浊",
    "位置偏僻晚上打不到车", "孩子很喜欢楼下的滑梯", "这个价格还要什么自行车", "毛巾是湿的而且有味道",
]  # fmt: skip
TEMPLATES = [
    "请判断下面这条酒店评论是好评还是差评，只回答一个词。\n评论：{}\n答案：",
    "你觉得酒店的住客说“{}”是在夸奖还是在批评这家酒店呢",
    "{} 请问上面这句话表达的情绪是正面的还是负面的，为什么？",
]


def templated(template: str, reviews: list[str]) -> Index:
    return Index([{"messages": [{"role": "user", "content": template.format(text)}]} for text in reviews], 13, 20)


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("count", [4, 12])
def test_what_stands_in_a_template_is_found_without_it(template: str, count: int) -> None:
    index = templated(template, REVIEWS[:count])
    for review in REVIEWS[:count]:
        assert index.find([review]), review
        assert index.find([f"住了两晚。\n{review}。\n还会再来。"]), review
        assert index.find([f"这条评论怎么样：{review}！"]), review
        assert index.find([template.format(review)]), review


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("count", [4, 12])
def test_what_only_has_the_template_in_common_stays(template: str, count: int) -> None:
    index = templated(template, REVIEWS[:count])
    assert [index.find([text]) for review in REVIEWS[12:] for text in (review, template.format(review))] == [None] * 6


def test_words_behind_a_template_are_found_too_in_full_width_letters_as_well() -> None:
    questions = [f"the {colour} heron sleeps beside our old {place}" for colour, place in zip(
        ("red", "blue", "green", "grey"), ("mill", "barn", "well", "gate"), strict=True)]  # fmt: skip
    index = templated("Is the following sentence true or false? Sentence: {}. Answer with a single word.", questions)
    assert index.find(["So they say that the red heron sleeps beside our old mill, and laugh."])
    assert index.find(["ｔｈｅ　ｂｌｕｅ　ｈｅｒｏｎ　ｓｌｅｅｐｓ　ｂｅｓｉｄｅ　ｏｕｒ　ｏｌｄ　ｂａｒｎ"])
    assert index.find(["So they say that the red heron sleeps beside our old well, and laugh."]) is None


def test_a_cut_takes_every_passage_and_nothing_else() -> None:
    index = Index([item(WORDS[:30]), item(WORDS[50:70])], 13, 20)
    text = f"One İ. {' '.join(WORDS[3:20])}! Two.\nThree.\n\nFour, {' '.join(WORDS[50:70])}\n\nFive."
    assert index.cut(text, whole_paragraphs=False) == "One İ.\n\nTwo.\nThree.\n\nFour,\n\nFive."
    assert index.cut(text, whole_paragraphs=True) == "Five."
    assert index.cut(text.replace("\n\n", "\n"), whole_paragraphs=True) == "Three.\nFive."
    assert index.cut(" ".join(WORDS[:30]), whole_paragraphs=False) == ""


def test_a_passage_that_several_items_ask_about_is_content() -> None:
    questions = ("who came", "when was it", "where did they go", "what was left")
    about = [item([*WORDS[:30], *question.split()]) for question in questions]
    index = Index([*about, *(item(WORDS[start : start + 30]) for start in (40, 45, 50, 55, 60))], 13, 20)
    assert index.find([" ".join(WORDS[5:20])])
