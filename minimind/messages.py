"""What others write in a message, in our form: names of roles, content in parts, calls without arguments."""

from typing import Any

from minimind import lossless

ALIASES = {"developer": "system", "function": "tool"}
"""OpenAI's other names of our roles."""

TEXT_PARTS = ("text", "input_text", "output_text")


def joined(content: object) -> object:
    """Content in parts, [{"type": "text", "text": …}, …], as one text; any other content as it is.

    Parts are written one behind the other, with nothing between. Raises ValueError naming a part that is no text.
    """
    if not isinstance(content, list):
        return content
    texts = []
    for number, part in enumerate(content, 1):
        kind = part.get("type", "text") if isinstance(part, dict) else "text"
        text = part.get("text") if isinstance(part, dict) else part
        if kind not in TEXT_PARTS or not isinstance(text, str):
            raise ValueError(f"part {number} of the content is {kind if kind != 'text' else 'none'}, expected text")
        texts.append(text)
    return "".join(texts)


def arguments(value: object) -> Any:
    """Arguments of a call, given as an object or as JSON text; an empty text and null are none. Raises ValueError."""
    parsed = lossless.loads(value) if isinstance(value, str) and value.strip() else value
    return {} if parsed is None or (isinstance(parsed, str) and not parsed.strip()) else parsed


def calls(message: dict[str, Any]) -> object:
    """A message's `tool_calls`, or OpenAI's older `function_call` as a list of one."""
    called = message.get("tool_calls")
    return [message["function_call"]] if not called and message.get("function_call") else called
