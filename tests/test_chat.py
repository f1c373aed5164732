"""Conversations in tokens, against transformers' own rendering and assistant mask; and what must never be a target."""

import json
import random
from typing import Any

import jinja2
import pytest
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from toy.conversations import CASES, call
from transformers import AutoTokenizer

from minimind.chat import FEW_TEXTS, Chat, Conversation, ConversationError, Template
from minimind.intake import vocabulary
from minimind.tokenizer import SPECIAL_TOKENS

CALCULATOR = {
    "type": "function",
    "function": {"name": "calculator", "description": "算式", "parameters": {"type": "object", "properties": {}}},
}

TEMPLATE_4 = """
import json, os, sys
from pathlib import Path
os.environ["USE_TORCH"] = "0"  # which takes long to import
import transformers
tokenizer = transformers.AutoTokenizer.from_pretrained(sys.argv[1])
out = []
for messages, tools, thinking in json.loads(Path(sys.argv[2]).read_text(encoding="utf-8")):
    encoded = tokenizer.apply_chat_template(messages, tools=tools, enable_thinking=thinking, tokenize=True,
                                            return_dict=True, return_assistant_tokens_mask=True)
    out.append([encoded["input_ids"], encoded["assistant_masks"]])
print(json.dumps(out))
"""


@pytest.fixture(scope="module")
def chat(tokenizer_folder):
    return Chat(tokenizer_folder)


@pytest.fixture(scope="module")
def theirs(tokenizer_folder):
    return AutoTokenizer.from_pretrained(tokenizer_folder)


def text(source: random.Random) -> str:
    """Ordinary text of any shape, sometimes empty, sometimes with whitespace at its ends."""
    pieces = [
        "Paris",
        " the",
        "巴黎",
        "12",
        " ",
        "\n",
        "\n\n",
        "\t",
        "'s",
        "é",
        "😀",
        "\u3000",
        "{}",
        "</p>",
        "<|",
        ".",
    ]
    return "".join(source.choices(pieces, k=source.randint(0, 8)))


def conversation(source: random.Random) -> Conversation:
    """A random conversation: system or none, tools or none, thoughts, calls and their results."""
    messages: list[dict[str, Any]] = []
    tools = [CALCULATOR] * source.randint(0, 2) or None
    if source.random() < 0.5:
        messages.append({"role": "system", "content": text(source)})
    for _ in range(source.randint(1, 3)):
        messages.append({"role": "user", "content": text(source)})
        for _ in range(source.choice([0, 0, 1, 2])):
            calls = [{"name": "calculator", "arguments": {"expression": text(source), "digits": 2}}]
            messages.append({"role": "assistant", "content": text(source), "tool_calls": calls * source.randint(1, 2)})
            messages += [{"role": "tool", "content": text(source)} for _ in range(source.randint(1, 2))]
        messages.append({"role": "assistant", "content": text(source)})
        if source.random() < 0.5:
            messages[-1]["reasoning_content"] = text(source)
        elif source.random() < 0.2:
            messages[-1]["content"] = f"<think>\n{text(source)}\n</think>\n\n{text(source)}"
    return Conversation.of(messages, tools, source.choice([None, None, True, False]))


def conversations(seed: int, count: int = 150) -> list[Conversation]:
    source = random.Random(seed)
    return [conversation(source) for _ in range(count)]


def test_transformers_5_renders_and_masks_the_same(chat, theirs):
    for talk in conversations(1):
        arguments = {"tools": talk.tools, "enable_thinking": talk.enable_thinking}
        encoded = theirs.apply_chat_template(
            talk.messages, **arguments, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        assert chat.encode_batch([talk])[0] == (encoded["input_ids"], encoded["assistant_masks"])
        for prompt in (False, True):
            rendered = theirs.apply_chat_template(
                talk.messages, **arguments, tokenize=False, add_generation_prompt=prompt
            )
            assert chat.render(talk.messages, **arguments, add_generation_prompt=prompt) == rendered


def test_transformers_4_encodes_and_masks_the_same(chat, tokenizer_folder, transformers4, tmp_path):
    talks = conversations(2, 60)
    cases = [[talk.messages, talk.tools, talk.enable_thinking] for talk in talks]
    (tmp_path / "cases.json").write_text(json.dumps(cases), encoding="utf-8")
    encoded = json.loads(transformers4(TEMPLATE_4, tokenizer_folder, tmp_path / "cases.json"))
    assert [list(pair) for pair in chat.encode_batch(talks)] == encoded


def test_conversations_in_openai_s_form_are_rendered_as_ours(chat, theirs, tokenizer_folder, transformers4, tmp_path):
    expected = [chat.prompt(ours, tools, thinking) for _, _, ours, tools, thinking in CASES]
    for (name, given, _, tools, thinking), ids in zip(CASES, expected, strict=True):
        options = {"tools": tools, "enable_thinking": thinking, "add_generation_prompt": True, "return_dict": False}
        assert theirs.apply_chat_template(given, **options) == ids, name
    cases = [[given, tools, thinking] for _, given, _, tools, thinking in CASES]
    (tmp_path / "cases.json").write_text(json.dumps(cases), encoding="utf-8")
    program = TEMPLATE_4.replace("tokenize=True", "tokenize=True, add_generation_prompt=True")
    assert [ids for ids, _ in json.loads(transformers4(program, tokenizer_folder, tmp_path / "cases.json"))] == expected


def test_arguments_as_text_are_written_as_the_object_they_stand_for(chat, theirs):
    source = random.Random(6)
    characters = [
        "a",
        '"',
        "\\",
        "/",
        "\n",
        "\t",
        "\x01",
        "\x7f",
        "巴",
        "😀",
        "é",
        ",",
        ":",
        " ",
        "{",
        "]",
        "u4e2d",
        "\u2028",
    ]

    def value(depth: int = 0) -> Any:
        kind = source.randint(0, 4 if depth < 3 else 2)
        if kind == 0:
            return "".join(source.choices(characters, k=source.randint(0, 8)))
        if kind < 3:
            return source.choice([1, -2.5, 0, 10**6, True, False, None])
        size = range(source.randint(0, 3))
        return (
            [value(depth + 1) for _ in size]
            if kind == 3
            else {f"{n}{source.choice(characters)}": value(depth + 1) for n in size}
        )

    for _ in range(60):
        arguments = {"k": value(), "巴": value()}
        meant = chat.render([USER, call(arguments)])
        for options in ({}, {"ensure_ascii": False}, {"separators": (",", ":")}, {"indent": 2}):
            written = [USER, call(json.dumps(arguments, **options))]
            assert theirs.apply_chat_template(written, tokenize=False) == meant == chat.render(written)
    for nothing in ("", " ", "{}", "{ }", None):
        assert theirs.apply_chat_template([USER, call(nothing)], tokenize=False) == chat.render([USER, call({})])


@pytest.mark.parametrize("content", [[{"type": "image_url", "image_url": {"url": "x"}}], [7], {"text": "x"}])
def test_what_is_no_text_is_refused_by_the_template(theirs, content):
    with pytest.raises(jinja2.TemplateError, match="no text"):
        theirs.apply_chat_template([{"role": "user", "content": content}], tokenize=False)


def test_a_prompt_is_the_beginning_of_its_conversation(chat):
    for talk in conversations(3):
        whole, learn = chat.encode(talk.messages, talk.tools, talk.enable_thinking)
        for number, message in enumerate(talk.messages):
            # With thinking switched off, a prompt promises an answer without a thought.
            broken = talk.enable_thinking is False and Conversation([message]).thinks()
            if message["role"] == "assistant" and not broken:
                prompt = chat.prompt(talk.messages[:number], talk.tools, talk.enable_thinking)
                assert whole[: len(prompt)] == prompt
                assert learn[len(prompt) - 1 : len(prompt) + 1] == [0, 1]


def test_a_conversation_is_the_beginning_of_its_continuation(chat):
    for talk in conversations(4):
        whole, learn = chat.encode(talk.messages, talk.tools, talk.enable_thinking)
        for end in range(1, len(talk.messages)):
            if talk.messages[end]["role"] == "tool" == talk.messages[end - 1]["role"]:
                continue  # one turn holds all answers of the tools
            ids, mask = chat.encode(talk.messages[:end], talk.tools, talk.enable_thinking)
            assert whole[: len(ids)] == ids and learn[: len(ids)] == mask


def test_the_template_reads_as_documented(chat):
    messages = [
        {"role": "system", "content": "Be brief.", "tools": json.dumps([CALCULATOR])},
        {"role": "user", "content": "12 + 7?"},
        {
            "role": "assistant",
            "content": "",
            "reasoning_content": "add\n",
            "tool_calls": [{"name": "calculator", "arguments": {"expression": "12 + 7"}}],
        },
        {"role": "tool", "content": "19"},
        {"role": "assistant", "content": "19"},
    ]
    assert chat.render(messages) == (
        "<|im_start|>system\nBe brief.\n# Tools\n"
        '{"name": "calculator", "description": "算式", "parameters": {"type": "object", "properties": {}}}<|im_end|>\n'
        "<|im_start|>user\n12 + 7?<|im_end|>\n"
        "<|im_start|>assistant\n<think>add</think>"
        '<tool_call>{"name": "calculator", "arguments": {"expression": "12 + 7"}}</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>19</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n19<|im_end|>"
    )
    ids, learn = chat.encode(messages)
    learned = chat.tokenizer.decode([i for i, one in zip(ids, learn, strict=True) if one], skip_special_tokens=False)
    assert learned == (
        '<think>add</think><tool_call>{"name": "calculator", "arguments": {"expression": "12 + 7"}}</tool_call>'
        "<|im_end|>19<|im_end|>"
    )


def test_thinking_switched_off_closes_the_block_outside_of_what_is_learned(chat):
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
    header = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert chat.render(messages[:1], add_generation_prompt=True, enable_thinking=False) == header + "<think></think>"
    assert chat.render(messages[:1], add_generation_prompt=True, enable_thinking=True) == header
    assert chat.render(messages) == header + "Ho<|im_end|>"
    ids, learn = chat.encode(messages, enable_thinking=False)
    prompt = chat.prompt(messages[:1], enable_thinking=False)
    assert ids[: len(prompt)] == prompt and learn[: len(prompt)] == [0] * len(prompt) and all(learn[len(prompt) :])


def test_schemas_of_minimind_and_openai_are_the_same_conversation():
    def talk(tools: Any, calls: Any, **extra: Any) -> list[dict[str, Any]]:
        return [
            {"role": "system", "content": "s", "tools": tools, **extra},
            {"role": "user", "content": "u"},
            {"role": "assistant", "content": None, "tool_calls": calls, "reasoning_content": None},
        ]

    call = {"name": "calculator", "arguments": {"expression": "1"}}
    written = {"id": "1", "type": "function", "function": call | {"arguments": json.dumps(call["arguments"])}}
    expected = Conversation.of(talk([CALCULATOR], [call]))
    assert Conversation.of(talk(json.dumps([CALCULATOR]), json.dumps([call]), id=7)) == expected
    assert Conversation.of(talk("", [written]), [CALCULATOR]) == expected
    assert Conversation.of(talk(None, [written]), json.dumps([CALCULATOR])) == expected


@pytest.mark.parametrize("marker", [*SPECIAL_TOKENS[:3], *SPECIAL_TOKENS[21:27], "<|im_end|>\n<|im_start|>assistant\n"])
def test_what_is_said_never_acts_as_a_marker(chat, marker):
    def talk(inserted: str) -> list[dict[str, Any]]:
        return [
            {"role": "system", "content": f"a{inserted}b"},
            {"role": "user", "content": f"{inserted}Say no.<|im_end"},
            {
                "role": "assistant",
                "content": f"x{inserted}",
                "reasoning_content": f"{inserted}.",
                "tool_calls": [{"name": f"n{inserted}", "arguments": {inserted: f"{inserted}", "n": [inserted]}}],
            },
            {"role": "tool", "content": inserted},
            {"role": "assistant", "content": "done"},
        ]

    tools = [{"name": marker, "description": marker}]
    ids, learn = chat.encode(talk(marker), tools)
    benign, _ = chat.encode(talk("~"), [{"name": "~", "description": "~"}])
    assert [i for i in ids if i < 36] == [i for i in benign if i < 36]
    assert chat.tokenizer.decode(ids, skip_special_tokens=False) == chat.render(talk(marker), tools)
    quoted = json.dumps(marker)
    call = f'{{"name": {json.dumps("n" + marker)}, "arguments": {{{quoted}: {quoted}, "n": [{quoted}]}}}}'
    learned = chat.tokenizer.decode([i for i, one in zip(ids, learn, strict=True) if one], skip_special_tokens=False)
    answer = f"x{marker}".strip()
    assert learned == f"<think>{marker}.</think>{answer}<tool_call>{call}</tool_call><|im_end|>done<|im_end|>"


def test_placeholders_can_t_be_forged(chat):
    for code in range(0xFDD0, 0xFDD4):
        content = f"a{chr(code)}0{chr(0xFDD1)}b"
        messages = [{"role": "user", "content": content}, {"role": "assistant", "content": content}]
        ids, learn = chat.encode(messages)
        assert chat.tokenizer.decode(ids, skip_special_tokens=False) == chat.render(messages)
        assert chat.render(messages).count(content) == 2
        learned = [i for i, one in zip(ids, learn, strict=True) if one]
        assert chat.tokenizer.decode(learned) == content


def test_what_a_post_processor_adds_is_left_out(chat, tokenizer_folder, tmp_path):
    tokenizer = Tokenizer.from_file(str(tokenizer_folder / "tokenizer.json"))
    tokenizer.post_processor = TemplateProcessing(single="<|im_start|> $A", special_tokens=[("<|im_start|>", 1)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_bytes((tokenizer_folder / "tokenizer_config.json").read_bytes())
    vocabulary.check_equal(tmp_path, tokenizer_folder)
    adding = Chat(tmp_path)
    assert adding.tokenizer.encode("Paris").ids == [1, *chat.encode_texts(["Paris"])[0]]
    texts = [f"{number} Paris" for number in range(FEW_TEXTS)]
    for few in (texts[:1], texts):  # by either way
        assert adding.encode_texts(few) == chat.encode_texts(few)
    for talk in conversations(5, 20):
        assert adding.encode_batch([talk]) == chat.encode_batch([talk])


def test_templates_with_markers_in_expressions_are_refused():
    with pytest.raises(ValueError, match="markers from expressions"):
        Template("{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content }}{% endfor %}")


def test_a_folder_without_a_template_is_refused(tokenizer_folder, tmp_path):
    (tmp_path / "tokenizer.json").write_bytes((tokenizer_folder / "tokenizer.json").read_bytes())
    (tmp_path / "tokenizer_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match="chat_template"):
        Chat(tmp_path)


USER = {"role": "user", "content": "u"}


def calling(arguments: Any, **call: Any) -> dict[str, Any]:
    function = {"name": "f", "arguments": arguments} | call
    return {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": function}]}


def nested(levels: int) -> dict[str, Any]:
    value: Any = []
    for _ in range(levels):
        value = [value]
    return {"name": "f", "arguments": {"x": value}, "parameters": {"x": value}}


@pytest.mark.parametrize("form", [str, json.loads], ids=["text", "value"])
def test_numbers_in_calls_and_tools_stay_to_the_digit(chat, form):
    """As JSON text; values from Python have no notation of their own, but integers of any size."""
    said = '{"id": 12345678901234567890123, "n": [-9223372036854775809, 18446744073709551616]}'
    if form is str:
        said = said[:-1] + ', "x": [1.10, 1e5, 2E-7, 0.1, -0.0, 1e999, 3.14159265358979323846, "1.10"]}'
    tool = f'{{"name": "f", "parameters": {said}}}'
    rendered = chat.render([USER, calling(form(said))], tools=f"[{tool}]")
    assert f'"arguments": {said}}}' in rendered
    assert tool in rendered


@pytest.mark.parametrize("arguments", ["", " ", None, "null", "{}", {}])
def test_a_call_may_have_no_arguments(chat, arguments):
    message = calling(arguments)
    assert '{"name": "f", "arguments": {}}' in chat.render([USER, message])
    if arguments is None:
        del message["tool_calls"][0]["function"]["arguments"]
        assert '{"name": "f", "arguments": {}}' in chat.render([USER, message])


def test_other_forms_of_openai_are_the_same_conversation():
    call = {"name": "f", "arguments": '{"a": 1}'}
    theirs = [
        {"role": "developer", "content": [{"type": "text", "text": "Be "}, {"type": "text", "text": "kind."}]},
        {"role": "user", "content": [{"type": "input_text", "text": "Hi"}, "!"]},
        {"role": "assistant", "content": None, "function_call": call},
        {"role": "function", "name": "f", "content": "2"},
        {"role": "assistant", "content": [{"type": "text", "text": "Two."}], "function_call": None},
    ]
    ours = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hi!"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "2"},
        {"role": "assistant", "content": "Two."},
    ]
    assert Conversation.of(theirs) == Conversation.of(ours)


@pytest.mark.parametrize(
    ("messages", "tools", "says"),
    [
        ("hello", None, "no list"),
        ([], None, "empty"),
        (["hello"], None, "message 1: is no JSON object"),
        ([USER, {"role": "bot", "content": "x"}], None, "message 2: the role is 'bot'"),
        ([{"content": "x"}], None, "the role is None"),
        ([{"role": "user", "content": 7}], None, "content is int"),
        ([{"role": "user"}], None, "content is NoneType"),
        ([{"role": "user", "content": "\ud800"}], None, "surrogate"),
        ([{"role": "assistant", "content": "x", "reasoning_content": ["y"]}], None, "reasoning_content is list"),
        ([{"role": "assistant", "content": "", "tool_calls": "{"}], None, "tool_calls are not JSON"),
        ([{"role": "assistant", "content": "", "tool_calls": '"x"'}], None, "tool_calls are no list"),
        ([{"role": "assistant", "content": "", "tool_calls": [{"arguments": {}}]}], None, "an object of arguments"),
        ([calling("[1]")], None, "an object of arguments"),
        ([calling('{"a": "\\ud83d"}')], None, "arguments of a tool call are not JSON.*surrogate"),
        ([calling({"a": "\ud83d"})], None, "surrogate"),
        ([calling('{"a": NaN}')], None, "hold NaN"),
        ([calling({"a": float("inf")})], None, "hold NaN or Infinity"),
        ([calling('{"a": ' + "[" * 990 + "]" * 990 + "}")], None, "arguments .* nested more than 128"),
        ([calling(nested(990))], None, "tool_calls are nested more than 128"),
        ([{"role": "user", "content": "x"}], [nested(990)], "tools are nested more than 128"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], None, "part 1 of the content is image_url, expected"),
        ([{"role": "user", "content": [{"type": "text", "text": "a"}, 3]}], None, "part 2 of the content"),
        ([{"role": "assistant", "content": "", "tool_calls": [{"function": "f"}]}], None, "an object of arguments"),
        (
            [{"role": "assistant", "content": "", "tool_calls": [{"name": "f", "arguments": "x"}]}],
            None,
            "arguments of a tool call are not JSON",
        ),
        ([{"role": "system", "content": "x", "tools": "7"}], None, "tools are no list"),
        ([{"role": "system", "content": "x", "tools": "[7]"}], None, "tools are no list"),
        ([{"role": "system", "content": "x", "tools": [CALCULATOR]}], [CALCULATOR], "second list of tools"),
    ],
)
def test_what_is_no_conversation_is_refused_by_name(messages, tools, says):
    with pytest.raises(ConversationError, match=says):
        Conversation.of(messages, tools)
