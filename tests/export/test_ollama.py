"""Ollama's template says what ours says, rendered by Go's own engine."""

import json
import os
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from toy.conversations import CASES

from minimind.chat import Conversation, Template
from minimind.export import ollama
from minimind.tokenizer import CHAT_TEMPLATE

TOOLS = [
    {"name": "calculator", "description": "算", "parameters": {"properties": {"expression": {"type": "string"}}}},
    {"name": "clock", "parameters": {}},
]
USER = {"role": "user", "content": "What is 12*7?\n法国的首都是哪里？"}
SYSTEM = {"role": "system", "content": "Be brief."}
ANSWER = {"role": "assistant", "content": "84"}
THOUGHT = {"role": "assistant", "content": "84", "reasoning_content": "12*7\n84"}
CALL = {"role": "assistant", "content": "", "tool_calls": [{"name": "calculator", "arguments": {"expression": "12*7"}}]}
CALLS = {**CALL, "content": "Two.", "tool_calls": [*CALL["tool_calls"], {"name": "clock", "arguments": {}}]}
RESULT, TIME = {"role": "tool", "content": "84"}, {"role": "tool", "content": "noon"}
CONVERSATIONS: list[list[dict[str, Any]]] = [
    [USER],
    [SYSTEM, USER],
    [{**SYSTEM, "content": ""}, USER],
    [USER, ANSWER, USER],
    [SYSTEM, USER, THOUGHT, USER, ANSWER, USER],
    [USER, CALL, RESULT],
    [SYSTEM, USER, CALLS, RESULT, TIME],
    [USER, CALLS, RESULT, TIME, ANSWER, USER],
]


def ours(messages: list[dict[str, Any]], tools: list[dict[str, Any]], think: bool | None) -> str:
    """The prompt as our template writes it, but for the spaces in JSON."""
    template = Template(CHAT_TEMPLATE.replace("| tojson", "| tojson(separators=(',', ':'))"))
    conversation = Conversation.of(messages, tools, think)
    return "".join(segment.text for segment in template.segments(conversation, add_generation_prompt=True))


def theirs(messages: list[dict[str, Any]], tools: list[dict[str, Any]], think: bool | None) -> dict[str, Any]:
    """The same as Ollama takes it: content is text, arguments are objects, as its server makes of OpenAI's form."""

    def called(call: dict[str, Any]) -> dict[str, Any]:
        function = dict(call.get("function", call))
        if isinstance(function["arguments"], str):
            function["arguments"] = json.loads(function["arguments"])
        return function

    return {
        "messages": [
            {
                "role": message["role"],
                "content": "".join(part["text"] for part in message["content"])
                if isinstance(message["content"], list)
                else message["content"] or "",
                "thinking": message.get("reasoning_content", ""),
                "toolcalls": [{"function": called(call)} for call in message.get("tool_calls", [])],
            }
            for message in messages
        ],
        "tools": [{"function": tool.get("function", tool)} for tool in tools],
        "think": bool(think),
        "isthinkset": think is not None,
    }


def test_both_templates_write_the_same(tmp_path: Path) -> None:
    cases = [
        (messages, messages, tools, think)
        for messages in CONVERSATIONS
        for tools in ([], TOOLS)
        for think in (None, True, False)
    ]
    cases += [(given, meant, tools or [], think) for _, given, meant, tools, think in CASES]
    source = tmp_path / "template"
    source.write_text(ollama.TEMPLATE, encoding="utf-8")
    command = [Path(sysconfig.get_path("purelib")) / "go/bin/go", "run", Path(__file__).with_name("ollama.go"), source]
    environment = os.environ | {"GOCACHE": str(tmp_path / "cache"), "GOTOOLCHAIN": "local", "GO111MODULE": "off"}
    told = json.dumps([theirs(given, *rest) for given, _, *rest in cases], ensure_ascii=False)
    done = subprocess.run(command, input=told, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    for (_, meant, *rest), text in zip(cases, json.loads(done.stdout), strict=True):
        assert text == ours(meant, *rest), meant
