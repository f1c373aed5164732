"""Conversations in the terminal, with a model whose words are given."""

import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from minimind import Model, checkpoint, cli, talk, verify
from minimind.chat import Chat
from minimind.inference.sampling import Sampling
from minimind.model import Decoder, ModelConfig
from minimind.talk import Screen, Talk, TurnError, calculate, use

torch.set_num_threads(1)

RUNTIME = """
runtime: {device: cpu, dtype: float32, threads: 1, micro_batch_size: 0, compile: "off", workers: 1,
          evaluation_batch_size: 4}
"""
CALL = '<think>Use it.</think><tool_call>{"name": "calculator", "arguments": {"expression": "12 + 7"}}</tool_call>'


@pytest.fixture
def folder(tmp_path: Path, tokenizer_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint with random weights, in a workspace with a runtime section."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(RUNTIME)
    config = ModelConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, intermediate_size=32,
        max_position_embeddings=512, vocab_size=Chat(tokenizer_folder).tokenizer.get_vocab_size(),
    )  # fmt: skip
    checkpoint.save(tmp_path / "model", Decoder(config).initialise(0), tokenizer_folder, {})
    return tmp_path / "model"


@pytest.fixture
def script(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[list[int]]]:
    """Let the model say these texts, one after the other; returns the prompts that it is given meanwhile."""

    def write(*texts: str) -> list[list[int]]:
        prompts: list[list[int]] = []
        words = iter(texts)

        def stream(model: Model, messages: list[dict[str, Any]], tools: Any = None, **_: Any) -> Iterator[str]:
            prompts.append(model.chat.prompt(messages, tools))
            yield from next(words)  # a character at a time

        monkeypatch.setattr(Model, "stream", stream)
        return prompts

    return write


def said(conversation: Talk, content: str) -> list[dict[str, Any]]:
    """The messages of a turn."""
    return [part for part in conversation.say(content) if not isinstance(part, str)]


def test_positions_can_be_stretched(
    folder: Path, script: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = script("Yes.")
    question = "the sea " * 300  # more tokens than the model has positions
    assert cli.main(["chat", str(folder), question]) == 1
    assert "the model has room for 312" in capsys.readouterr().err
    assert cli.main(["chat", "--rope-scaling", "4:512", str(folder), question]) == 0
    assert 312 < len(prompts[0]) < 2048
    for text in ("4", "4:x", "0.5:512"):
        assert cli.main(["chat", "--rope-scaling", text, str(folder), "Hello"]) == 1
        assert f"--rope-scaling {text}: expected FACTOR:LENGTH" in capsys.readouterr().err


def test_a_transcript(folder: Path, script: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    prompts = script("<think>France, so Paris.</think>It is Paris.", "巴黎。\n是的。")
    assert (
        cli.main(["chat", str(folder), "What is the capital?", "首都?", "--system", "Be brief.", "--transcript"]) == 0
    )
    assert capsys.readouterr().out == (
        "you    │ What is the capital?\n"
        "thinks │ France, so Paris.\n"
        "model  │ It is Paris.\n"
        "you    │ 首都?\n"
        "model  │ 巴黎。\n"
        "       │ 是的。\n"
    )
    chat = Chat(folder)
    assert prompts[1] == chat.prompt(
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "What is the capital?"},
            {"role": "assistant", "content": "It is Paris.", "reasoning_content": "France, so Paris."},
            {"role": "user", "content": "首都?"},
        ]
    )


def test_the_calculator_is_used(folder: Path, script: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    prompts = script(CALL, "It is 19.")
    talk.main(str(folder), ["What is 12 + 7?"], Sampling(), calculator=True, transcript=True)
    assert capsys.readouterr().out.splitlines()[1:] == [
        "thinks │ Use it.",
        'calls  │ calculator {"expression": "12 + 7"}',
        "tool   │ 19",
        "model  │ It is 19.",
    ]
    shown = Chat(folder).tokenizer.decode(prompts[1], skip_special_tokens=False)
    assert '{"name": "calculator", "parameters"' in shown
    assert shown.index(CALL) < shown.index("<tool_response>19</tool_response>")


def test_without_tools_a_call_is_only_shown(folder: Path, script: Callable[..., Any]) -> None:
    script(CALL)
    (message,) = said(Talk(Model(folder), Sampling()), "12 + 7?")
    assert message["tool_calls"]


def test_calling_for_ever_is_stopped(folder: Path, script: Callable[..., Any]) -> None:
    script(*[CALL] * 10)
    messages = said(Talk(Model(folder), Sampling(), calculator=True), "12 + 7?")
    assert [message["role"] for message in messages] == ["assistant", "tool"] * talk.MAX_CALLS + ["assistant"]


def test_the_oldest_turns_leave(folder: Path, script: Callable[..., Any]) -> None:
    prompts = script(*(f"answer {i}" for i in range(30)))
    conversation = Talk(Model(folder), Sampling(max_new_tokens=356), system="Be brief.")
    for i in range(12):
        list(conversation.say(f"question {i}"))
    texts = [Chat(folder).tokenizer.decode(prompt, skip_special_tokens=False) for prompt in prompts]
    assert max(map(len, prompts)) <= 156
    assert "question 0" in texts[1] and "question 0" not in texts[-1]
    assert all(text.count("Be brief.") == 1 for text in texts)
    assert all(f"question {i}" in text for i, text in enumerate(texts))
    before = list(conversation.messages)
    with pytest.raises(TurnError, match="room for 156"):
        list(conversation.say("long " * 300))
    assert conversation.messages == before[:1]
    list(conversation.say("question 12"))


def test_what_is_typed_is_answered(
    folder: Path, script: Callable[..., Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    script("Hello.", "Yes.")
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"Hi\n\n{'long ' * 300}\nReally?\n"))
    talk.main(str(folder), [], Sampling(200))
    out, err = capsys.readouterr()
    assert out == "Hello.\nYes.\n"  # no terminal: the answers alone
    assert "be briefer" in err


def test_a_pipe_gets_the_answers_alone(
    folder: Path, script: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    script("<think>Hm.</think>巴黎。\n是的。", CALL, "It is 19.", "")
    talk.main(str(folder), ["首都?", "12 + 7?", "And?"], Sampling(), calculator=True)
    assert capsys.readouterr().out == "巴黎。\n是的。\nIt is 19.\n\n"


def test_it_works_without_a_checkout(
    folder: Path, script: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script("Yes.", "Yes.")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert cli.main(["chat", str(folder), "Hi"]) == 0
    (elsewhere / "params.yaml").write_text("of: another project\n")
    assert cli.main(["chat", str(folder), "Hi"]) == 0


def test_ctrl_c_ends_the_answer_and_not_the_conversation(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts: list[list[dict[str, Any]]] = []

    def stream(model: Model, messages: list[dict[str, Any]], **_: Any) -> Iterator[str]:
        prompts.append([dict(message) for message in messages])
        if messages[-1]["content"] == "nothing":
            raise KeyboardInterrupt
        yield "One, two"
        if messages[-1]["content"] == "count":
            raise KeyboardInterrupt

    monkeypatch.setattr(Model, "stream", stream)
    typed = io.StringIO("count\nnothing\nagain\n")
    typed.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stdin", typed)
    monkeypatch.setattr("builtins.input", lambda _: typed.readline().strip() or (_ for _ in ()).throw(EOFError))
    talk.main(str(folder), [], Sampling(), transcript=True)
    out, err = capsys.readouterr()
    assert out.count("model  │ One, two\n") == 2 and err.count("the conversation goes on") == 2
    assert [message["content"] for message in prompts[2]] == ["count", "One, two", "again"]


def test_ctrl_c_where_nobody_types_is_no_traceback(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stream(*_: Any, **__: Any) -> Iterator[str]:
        yield "One"
        raise KeyboardInterrupt

    monkeypatch.setattr(Model, "stream", stream)
    assert cli.main(["chat", str(folder), "Hi"]) == cli.INTERRUPTED
    assert capsys.readouterr().err.strip() == ""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_thoughts_are_dimmed_on_a_terminal() -> None:
    stream = Terminal()
    Screen(stream).show({"role": "assistant", "content": "Yes.", "reasoning_content": "Hm."})
    assert stream.getvalue() == "\033[2mthinks │ Hm.\033[0m\nmodel  │ Yes.\n"


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize(
    "text",
    [
        "Yes.", "a < b, c <t and\n\nd", "<think>Hm.\nHm!</think>Yes.\nNo. ", CALL, f"Well: {CALL}", "<think>no end", "",
        "<tool_call>broken</tool_call>", "no beginning</think>Yes.", CALL + CALL.partition("</think>")[2],
        "<tool_call>no end",
    ],
)  # fmt: skip
def test_an_answer_that_comes_in_pieces_looks_like_one_that_came_whole(text: str, terminal: bool) -> None:
    """And every piece is shown at once: all but markers, calls and blanks that may be the last."""
    grown, whole = (Terminal() if terminal else io.StringIO() for _ in range(2))
    screen, shown = Screen(grown), []
    for character in text:
        screen.write(character)
        shown.append(grown.getvalue())
    screen.show(verify.message(text))
    Screen(whole).show(verify.message(text))
    assert grown.getvalue().endswith(whole.getvalue())
    if "</think>" not in text or text.startswith("<think>"):
        assert grown.getvalue() == whole.getvalue()
    if text == "Yes.":
        assert shown == ["model  │ Y", "model  │ Ye", "model  │ Yes", "model  │ Yes."]


def test_a_real_model_answers(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def answers() -> Iterator[str]:
        for seed in ("1", "1", "2"):
            arguments = [
                "chat",
                str(folder),
                "Hi",
                "Hi",
                "--max-new-tokens",
                "20",
                "--temperature",
                "1",
                "--seed",
                seed,
            ]
            assert cli.main(arguments) == 0
            yield capsys.readouterr().out

    first, again, other = answers()
    assert first == again != other


def test_what_can_not_be_opened_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    assert cli.main(["chat", str(tmp_path / "nothing"), "Hi"]) == 1
    assert "nothing is no folder" in capsys.readouterr().err
    assert cli.main(["chat", str(folder), "long " * 300]) == 1
    assert "be briefer" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("12*345", "4140"), (" 3 - 10", "-7"), ("7/2", "3.5"), ("6/2", "3"), ("-(2+3)*4", "-20"),
        ("1/3", "0.3333333333"), ("99999999*99999999", "9999999800000001"),
    ],
)  # fmt: skip
def test_sums(expression: str, value: str) -> None:
    assert calculate(expression) == value


@pytest.mark.parametrize(
    "expression", ["", "1/0", "2**9", "x", "print(1)", "1 +", "'a'*3", "True", "(" * 300, "1e999", "9" * 5000, "1;2"]
)
def test_everything_else_is_an_error_for_the_model(expression: str) -> None:
    assert use({"name": "calculator", "arguments": {"expression": expression}}).startswith("error: ")


def test_unknown_tools_and_arguments_are_errors_for_the_model() -> None:
    assert use({"name": "clock", "arguments": {}}) == "error: there is no tool clock"
    assert use({"name": "calculator", "arguments": {"sum": "1+1"}}) == "error: this is no expression"
