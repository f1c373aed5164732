"""Lines of JSON that are hardly readable, or readable and hardly writable, and good ones that look like them."""


def deep(levels: int) -> str:
    """Lists within each other."""
    return "[" * levels + "]" * levels


ANY = [
    "{", "null", "[]", '"x"', '{"text":"\\ud83d"}', '{"text":NaN}', '{"text":1e999}', "\ufeff{}",
    *(f'{{"x":{deep(levels)}}}' for levels in (126, 127, 251, 1020, 100_000)),
]  # fmt: skip

_TOOLS = [
    f'"tools":{deep(990)}', f'"tools":"{deep(990)}"', f'"tools":[{{"name":"f","parameters":{{"a":{deep(120)}}}}}]',
    '"tools":"[{\\"a\\": NaN}]"', '"tools":[{"a":1e999}]', '"tools":{"a":1}', '"tools":3', '"tools":"x"',
]  # fmt: skip
_CALLS = [
    '"tool_calls":[{"name":"f","arguments":"{\\"a\\": \\"\\\\ud83d\\"}"}]',
    '"tool_calls":"[{\\"name\\": \\"f\\", \\"arguments\\": {\\"a\\": \\"\\\\ud83d\\"}}]"',
    f'"tool_calls":[{{"name":"f","arguments":{{"a":{deep(990)}}}}}]',
    f'"tool_calls":[{{"name":"f","arguments":{{"a":{deep(118)}}}}}]',
    f'"tool_calls":[{{"name":"f","arguments":"{deep(100_000)}"}}]',
    '"tool_calls":[{"name":"f","arguments":{"a":NaN}}]', '"tool_calls":[{"name":"f","arguments":{"a":1e999}}]',
    '"tool_calls":[{"function":3}]', '"tool_calls":[null]', '"tool_calls":[{"function":{"name":["x"]}}]',
    '"tool_calls":5', '"function_call":"x"', '"function_call":{"name":"f"}',
]  # fmt: skip
_MESSAGES = [
    '{"role":["a"],"content":"x"}', '{"role":"user","content":[{"type":"image"}]}', '{"from":3,"value":"x"}', "7",
    "null",
    '{"role":"assistant","content":"x","weight":NaN}', '{"role":"user","content":1e999}', '{"role":"user"}',
    f'{{"role":"assistant","content":"<tool_call>{{\\"name\\": \\"f\\", \\"arguments\\": {deep(990)}}}</tool_call>"}}',
    '{"role":"user","content":"\\ud800"}',
]  # fmt: skip


def _talk(number: int, answer: str, more: str = "") -> str:
    asked = f'{{"role":"user","content":"Question {number}?"}}'
    return f'{{"conversations":[{asked},{{"role":"assistant","content":"A"{answer}}}]{more}}}'


CONVERSATIONS = [
    *ANY,
    *(_talk(number, "", f",{tools}") for number, tools in enumerate(_TOOLS)),
    *(_talk(number, f",{calls}") for number, calls in enumerate(_CALLS, 100)),
    *(
        f'{{"conversations":[{{"role":"user","content":"{number}"}},{message}]}}'
        for number, message in enumerate(_MESSAGES)
    ),
]
