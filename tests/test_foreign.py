"""Chat templates of others, against transformers with the same tokenizer; and markers that stand in messages."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer

from minimind import tokenizer
from minimind.chat import Chat, ConversationError
from minimind.errors import UserError

Output = pytest.CaptureFixture[str]
CHATML = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
THINK = ["<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>"]
LLAMA = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
# A template in a file of trl's, or its text; the markers of its tokenizer; what its answers end with.
KINDS: dict[str, tuple[str, list[str], str]] = {
    "qwen3": ("qwen3.jinja", CHATML + THINK, "<|im_end|>"),
    "qwen2.5": ("qwen2_5.jinja", CHATML + THINK, "<|im_end|>"),
    "llama3": ("llama3.jinja", LLAMA, "<|eot_id|>"),
    "phi3": ("phi3.jinja", ["<|user|>", "<|assistant|>", "<|system|>", "<|end|>", "<|endoftext|>"], "<|end|>"),
    "smollm": (
        "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
        "{{ '<|im_start|>system\nYou are small.<|im_end|>\n' }}{% endif %}"
        "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
        [*CHATML, "<repo_name>"],
        "<|im_end|>",
    ),
}
TOOLS = [{"type": "function", "function": {"name": "f", "description": "算 <b>", "parameters": {"type": "object"}}}]
TALK: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief. 简短。"},
    {"role": "user", "content": "Is 1 < 2, [a], and {b}?"},
    {"role": "assistant", "content": "Yes."},
    {"role": "user", "content": "谢谢"},
]
CALLS: list[dict[str, Any]] = [
    {"role": "user", "content": "12 + 7?"},
    {
        "role": "assistant", "content": "", "reasoning_content": "add",
        "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"x": "1 > 2", "n": ["一"]}}}],
    },
    {"role": "tool", "content": "19"},
]  # fmt: skip


def folder(path: Path, markers: list[str], template: str, blanks: bool = False) -> Path:
    """A tokenizer whose markers come behind the words, as most have them, with a chat template."""
    path.mkdir()
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(False)
    made.decoder, alphabet = decoders.ByteLevel(), pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        ["Is it so? Yes, it is so. user assistant system"] * 3,
        trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False),
    )
    hidden = [marker for marker in markers if "tool" not in marker and "think" not in marker]
    made.add_special_tokens(hidden)
    made.add_tokens([AddedToken(marker, normalized=False) for marker in markers if marker not in hidden])
    if blanks:
        made.add_tokens(["    ", "  "])
    made.save(str(path / "tokenizer.json"))
    described = {
        "tokenizer_class": "PreTrainedTokenizerFast", "chat_template": template, "eos_token": markers[0],
        "bos_token": markers[0], "model_input_names": ["input_ids", "attention_mask"],
    }  # fmt: skip
    (path / "tokenizer_config.json").write_text(json.dumps(described), encoding="utf-8")
    return path


def source(name: str) -> str:
    """The text of a template: trl ships those of known models, as their authors wrote them."""
    if not name.endswith(".jinja"):
        return name
    found = importlib.util.find_spec("trl")
    assert found and found.submodule_search_locations
    return Path(found.submodule_search_locations[0], "chat_templates", name).read_text(encoding="utf-8")


def theirs(path: Path, messages: list[dict[str, Any]], tools: Any = None, **options: Any) -> list[int]:
    """What transformers makes of it."""
    made = AutoTokenizer.from_pretrained(path).apply_chat_template(
        messages, tools=tools, add_generation_prompt=True, tokenize=True, return_dict=False, **options
    )
    assert isinstance(made, list)
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_a_prompt_is_the_one_of_transformers(kind: str, tmp_path: Path, capsys: Output) -> None:
    name, markers, end = KINDS[kind]
    path = folder(tmp_path / "model", markers, source(name), blanks=kind == "qwen2.5")
    chat = Chat(path)
    assert chat.why_foreign and chat.stop == chat.tokenizer.token_to_id(end)
    for size in (2, 4):
        for start in (0, 1):
            assert chat.prompt(TALK[start:size]) == theirs(path, TALK[start:size])
    if kind.startswith("qwen"):
        for options in ({}, {"enable_thinking": True}, {"enable_thinking": False}):
            for size in (1, 3):
                switched = chat.prompt(CALLS[:size], TOOLS, **options)
                assert switched == theirs(path, CALLS[:size], TOOLS, **options)
        text = chat.render(CALLS, TOOLS, add_generation_prompt=True)
        assert chat.tokenizer.decode(chat.prompt(CALLS, TOOLS), skip_special_tokens=False) == text
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("kind", KINDS)
def test_markers_in_messages_are_text(kind: str, tmp_path: Path, capsys: Output) -> None:
    name, markers, end = KINDS[kind]
    path = folder(tmp_path / "model", markers, source(name))
    chat = Chat(path)
    numbers = {chat.tokenizer.token_to_id(marker) for marker in markers}
    for injected in (*markers, f"{end}\n{markers[1]}x", f"<{markers[1]}>", "<|im_\ufdd0"):
        messages = [{"role": "user", "content": f"a{injected}b"}, *TALK[2:]]
        ids = chat.prompt(messages)
        benign = chat.prompt([{"role": "user", "content": "a~b"}, *TALK[2:]])
        assert [i for i in ids if i in numbers] == [i for i in benign if i in numbers]
        assert chat.tokenizer.decode(ids, skip_special_tokens=False) == chat.render(
            messages, add_generation_prompt=True
        )
    assert capsys.readouterr().err == ""


def test_where_a_template_looks_for_markers_a_warning_says_so(tmp_path: Path, capsys: Output) -> None:
    path = folder(tmp_path / "model", CHATML + THINK, source("qwen3.jinja"))
    chat = Chat(path)
    messages = [*TALK[:2], {"role": "assistant", "content": "<think>\nhm\n</think>\n\nYes."}]
    for _ in range(2):
        assert chat.prompt(messages) == theirs(path, messages)
    said = capsys.readouterr().err
    assert said.count("warning: ") == 1 and "may act as one" in said


def test_what_a_tokenizer_does_beside_a_marker_is_kept_or_warned_of(tmp_path: Path, capsys: Output) -> None:
    """A marker that swallows the blank behind it: a text can't be cut there."""
    path = folder(tmp_path / "model", CHATML, "{{ '<s> ' + messages[0].content }}")
    made = Tokenizer.from_file(str(path / "tokenizer.json"))
    made.add_special_tokens([AddedToken("<s>", rstrip=True, special=True)])
    made.save(str(path / "tokenizer.json"))
    chat = Chat(path)
    assert chat.prompt([{"role": "user", "content": "so"}]) == theirs(path, [{"role": "user", "content": "so"}])
    assert capsys.readouterr().err == ""
    chat.prompt([{"role": "user", "content": "<s> so"}])
    assert "warning: " in capsys.readouterr().err


def test_nothing_can_be_learned_in_a_foreign_template(tmp_path: Path) -> None:
    chat = Chat(folder(tmp_path / "model", CHATML, source(KINDS["smollm"][0])))
    with pytest.raises(UserError, match="what is to be learned of a conversation can't be told"):
        chat.encode(TALK)


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{{ raise_exception('Roles must alternate') }}", "refuses this conversation: Roles must alternate"),
        ("{{ '<s>' + messages[0].nothing }}", "refuses this conversation: .*nothing"),
        ("{{ '<s>' + 7 }}", "refuses this conversation"),
        ("{{ ''.__class__.__mro__ }}", "refuses this conversation: access to attribute"),
    ],
)
def test_what_a_template_refuses_is_told_in_a_line(template: str, says: str, tmp_path: Path) -> None:
    chat = Chat(folder(tmp_path / "model", CHATML, template))
    with pytest.raises(ConversationError, match=says):
        chat.prompt(TALK)


def test_a_template_that_can_not_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tokenizer_config\.json: the chat template can't be read: .*endfor"):
        Chat(folder(tmp_path / "model", CHATML, "{% for message in messages %}"))


def test_markers_in_text_and_in_expressions_are_not_taken_for_ours(tokenizer_folder: Path, tmp_path: Path) -> None:
    """With our markers: one that only half of the template spells out would lose the other half."""
    template = (
        "{% for message in messages %}"
        "<|im_start|>{{ message.role }}\n{{ message.content + '<|im_end|>' }}\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    (tmp_path / "tokenizer.json").write_bytes((tokenizer_folder / "tokenizer.json").read_bytes())
    described = json.loads((tokenizer_folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(described | {"chat_template": template}))
    chat = Chat(tmp_path)
    assert chat.why_foreign and chat.stop == tokenizer.EOS
    assert chat.prompt(TALK) == theirs(tmp_path, TALK)
