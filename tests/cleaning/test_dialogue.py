"""Answers that refuse, and those that only say who speaks or that are sorry for something else."""

import pytest

from minimind.cleaning import dialogue


def refusal(answer: str) -> str | None:
    found = dialogue.refusal([{"role": "user", "content": "?"}, {"role": "assistant", "content": answer}])
    return None if found is None else found[0]


@pytest.mark.parametrize(("answer", "pattern"), [
    ("As an AI language model, I don't have personal opinions.", "disclaimer"),
    ("As a large language model I cannot browse the web.", "disclaimer"),
    ("As an AI assistant, I can't provide medical advice.", "disclaimer"),
    ("作为一个AI语言模型，我没有感情。", "disclaimer"),
    ("作为一个大型语言模型，我无法预测未来。", "disclaimer"),
    ("作为人工智能助手，我无法提供医疗建议。", "disclaimer"),
    ("I'm sorry, but I can't help with that.", "apology"),
    ("Sorry, I am unable to assist you.", "apology"),
    ("I am very sorry, but as an AI assistant, I cannot provide that.", "apology"),
    ("<think>Not this.</think>很抱歉，我无法回答这个问题。", "apology"),
    ("对不起，作为AI助手，我不能为您提供这些信息。", "apology"),
    ("抱歉，但我没有能力完成此任务。", "apology"),
    ("I cannot assist with this request.", "refusal"),
    ("I can’t help you with that.", "refusal"),
    ("我无法提供您需要的内容。", "refusal"),
])  # fmt: skip
def test_a_refusal_is_told_by_its_pattern(answer: str, pattern: str) -> None:
    assert refusal(answer) == pattern


@pytest.mark.parametrize("answer", [
    # Who it is: what people train an identity with.
    "作为一个人工智能助手，我的名字是小明，由明明公司开发，可以回答你的问题。",
    "作为一个人工智能助手，我没有实体，也没有性别，但我会一直陪着你。", "作为一个AI助手，我不能喝水，不过我懂茶。",
    "作为一个语言模型，我叫小明。", "我是一个人工智能助手，无法像人一样感受冷暖。", "作为AI，我很高兴认识你！",
    "As an AI assistant, I was made by the Example team, and I can help you write.", "As an AI, I never sleep.",
    "As a language model I am called Mini.", "I am an AI language model made by Example.",
    # Sorry for something else, or about refusals.
    "I'm sorry I missed your call.", "I'm sorry to hear that.", "Sorry, I do not know a country of that name.",
    "I'm sorry, but I can't make it to the party.", "对不起，我不会再迟到了。", "很抱歉，我不能参加聚会。",
    "抱歉让你久等了，我们开始吧。", "对不起，我无法原谅自己。", "I can't help but smile.", "I will not be moved.",
    "A chatbot says “As an AI language model, I cannot help” when it refuses.", "我无法忘记那个夏天。",
    "他说：“作为一个AI语言模型，我没有感情。”这是小说里的一句话。",
])  # fmt: skip
def test_who_names_itself_or_is_sorry_refuses_nothing(answer: str) -> None:
    assert refusal(answer) is None
