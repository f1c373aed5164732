"""Ollama's template says what ours says, rendered by Go's own engine."""

import json
import os
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

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
    """The same as Ollama's API takes it."""
    return {
        "messages": [
            {
                "role": message["role"],
                "content": message["content"],
                "thinking": message.get("reasoning_content", ""),
                "toolcalls": [{"function": call} for call in message.get("tool_calls", [])],
            }
            for message in messages
        ],
        "tools": [{"function": tool} for tool in tools],
        "think": bool(think),
        "isthinkset": think is not None,
    }


def test_both_templates_write_the_same(tmp_path: Path) -> None:
    cases = [
        (messages, tools, think) for messages in CONVERSATIONS for tools in ([], TOOLS) for think in (None, True, False)
    ]
    source = tmp_path / "template"
    source.write_text(ollama.TEMPLATE, encoding="utf-8")
    command = [Path(sysconfig.get_path("purelib")) / "go/bin/go", "run", Path(__file__).with_name("ollama.go"), source]
    environment = os.environ | {"GOCACHE": str(tmp_path / "cache"), "GOTOOLCHAIN": "local", "GO111MODULE": "off"}
    told = json.dumps([theirs(*case) for case in cases], ensure_ascii=False)
    done = subprocess.run(command, input=told, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    for case, text in zip(cases, json.loads(done.stdout), strict=True):
        assert text == ours(*case), case
