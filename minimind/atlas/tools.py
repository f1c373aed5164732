"""Questions that want a tool: a calculator, and two that look something up for a city.

The argument stands in the question as it must stand in the call: an expression of six symbols at the very end, or a
city within quotes, which tokenises alike in both places.
"""

from typing import Any

from minimind.atlas.exercises import Exercise, assistant, dump, user
from minimind.atlas.facts import COUNTRIES, Language
from minimind.atlas.splits import Split, draw
from minimind.atlas.wording import SYSTEM
from minimind.random import Random

_ARGUMENTS = {"calculator": "expression", "weather": "city", "clock": "city"}
_LOOKUPS = ("weather", "clock")
_LOOKUP_PERCENT = 40  # the rest are calculations

_QUESTIONS: dict[Language, dict[str, tuple[str, ...]]] = {
    "en": {
        "calculator": ("Use the calculator: {x}", "Calculate with the tool: {x}", "Please work out {x}"),
        "weather": ('What is the weather in "{x}"?', 'How warm is it in "{x}"?'),
        "clock": ('What time is it in "{x}"?', 'Tell me the time in "{x}".'),
    },
    "zh": {
        "calculator": ("用计算器算：{x}", "请用工具计算：{x}", "请算出{x}"),
        "weather": ('"{x}"的天气怎么样？', '"{x}"现在多少度？'),
        "clock": ('"{x}"现在几点？', '告诉我"{x}"的时间。'),
    },
}
_ANSWERS: dict[Language, dict[str, str]] = {
    "en": {
        "calculator": "The result is {x}.",
        "weather": "It is {x} degrees there.",
        "clock": "It is {x} there.",
    },
    "zh": {"calculator": "结果是{x}。", "weather": "那里现在{x}度。", "clock": "那里现在{x}。"},
}


def schema(name: str) -> dict[str, Any]:
    """A tool as it is announced to the model."""
    argument = _ARGUMENTS[name]
    parameters = {"type": "object", "properties": {argument: {"type": "string"}}, "required": [argument]}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def call(name: str, argument: str) -> dict[str, Any]:
    """A call of the tool `name`, as a model writes it."""
    return {"name": name, "arguments": {_ARGUMENTS[name]: argument}}


def draw_product(random: Random, split: Split) -> tuple[str, int]:
    """A two-digit number times one of three digits, or the reverse: six symbols, and its value of four or five."""
    a, b = draw(
        random, split, lambda r: (r.between(12, 99), r.between(100, 999)), lambda pair: ("product", *sorted(pair))
    )
    return (f"{a}*{b}" if random.chance(50) else f"{b}*{a}"), a * b


def draw_city(random: Random, language: Language, name: str, split: Split) -> str:
    """A capital about which the tool `name` may be asked."""
    country = draw(random, split, lambda r: r.choice(COUNTRIES), lambda country: ("lookup", name, country.code))
    return country.facts["capital"][language]


def use(random: Random, language: Language, split: Split) -> Exercise:
    """A question that wants a tool, the call, its result and the answer."""
    if random.chance(_LOOKUP_PERCENT):
        name = random.choice(_LOOKUPS)
        argument = draw_city(random, language, name, split)
        result = (
            str(random.between(10, 39))
            if name == "weather"
            else f"{random.between(0, 23):02d}:{random.between(0, 59):02d}"
        )
    else:
        name = "calculator"
        argument, value = draw_product(random, split)
        result = str(value)
    others = [other for other in _ARGUMENTS if other != name]
    offered = random.shuffle([name, *random.sample(others, random.between(0, 1))])
    wanted = call(name, argument)
    answer = _ANSWERS[language][name].format(x=result)
    question = random.choice(_QUESTIONS[language][name]).format(x=argument)
    return Exercise(
        family="tool",
        language=language,
        messages=[{"role": "system", "content": SYSTEM[language]}, user(question)],
        reply={"role": "assistant", "content": "", "tool_calls": dump([wanted])},
        verify={"kind": "exact", "value": answer},
        tools=[schema(tool) for tool in offered],
        call=wanted,
        after_call=[{"role": "tool", "content": result}, assistant(answer)],
    )
