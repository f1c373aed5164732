"""`from minimind import Model`, with random weights."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

import minimind
from minimind import Model, checkpoint, files, tokenizer
from minimind.chat import Chat
from minimind.errors import UserError
from minimind.generate import generate, loglikelihood
from minimind.model import Decoder, ModelConfig
from minimind.tokenizer import BOS, EOS, TokenizerConfig

TOOLS = [{"name": "clock", "description": "The time.", "parameters": {"type": "object", "properties": {}}}]
SCHEMA = {"type": "object", "properties": {"a": {"enum": [1, 22]}}, "required": ["a"], "additionalProperties": False}


def write(folder: Path, words: Path, seed: int, layers: int, padding: int = 0) -> Path:
    """A checkpoint; `padding` more rows than the tokenizer has tokens are more probable than any of them."""
    num_tokens = Tokenizer.from_file(str(words / "tokenizer.json")).get_vocab_size()
    config = ModelConfig(
        hidden_size=32, num_hidden_layers=layers, num_attention_heads=4, num_key_value_heads=2, intermediate_size=64,
        max_position_embeddings=256, vocab_size=num_tokens + padding,
    )  # fmt: skip
    decoder = Decoder(config).initialise(seed)
    for parameter in decoder.parameters():
        parameter.data *= 4 if parameter.ndim > 1 else 1  # so that answers vary
    decoder.model.embed_tokens.weight.data[num_tokens:] *= 8
    checkpoint.save(folder, decoder, words, {})
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tokenizer_folder: Path) -> Path:
    return write(tmp_path_factory.mktemp("models") / "dpo", tokenizer_folder, 0, 2)


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return Model(folder, device="cpu", dtype="float32", threads=1)


def test_a_prediction_is_what_generate_says(model: Model, folder: Path) -> None:
    chat, decoder = Chat(folder), checkpoint.load(folder)
    asked = ["法国的首都是哪里？", "What is 12 + 7?", "Hi"]
    conversations = [[{"role": "user", "content": text}] for text in asked]
    expected = generate(decoder, [chat.prompt(c) for c in conversations], max_new_tokens=30, stop=EOS)
    texts = [chat.tokenizer.decode(ids, skip_special_tokens=True) for ids in expected]
    assert model.predict(asked[0], max_new_tokens=30) == texts[0]
    assert model.predict(asked, max_new_tokens=30) == texts
    assert model.predict(conversations, max_new_tokens=30, batch_size=2) == texts
    assert model.predict([], max_new_tokens=30) == []
    (ids,) = generate(decoder, [[BOS, *chat.encode_texts(["Paris"])[0]]], max_new_tokens=9, stop=EOS)
    assert model.complete("Paris", max_new_tokens=9) == chat.tokenizer.decode(ids, skip_special_tokens=True)


def test_a_stream_is_the_prediction_in_pieces(model: Model) -> None:
    options = {"max_new_tokens": 60, "temperature": 1.0, "min_p": 0.01, "seed": 3}
    pieces = list(model.stream("Hi", **options))
    whole = model.predict("Hi", **options)
    assert "".join(pieces) == whole and len(pieces) > 5 and all(pieces)
    assert model.predict("Hi", **options | {"seed": 4}) != whole
    middle = whole[len(whole) // 2 :][:3]
    assert model.predict("Hi", **options, stop=middle) == whole[: whole.index(middle)]
    assert "".join(model.stream("Hi", **options, stop=[middle, "never"])) == whole[: whole.index(middle)]


def test_an_answer_may_use_all_the_room_there_is(model: Model) -> None:
    prompt = model.chat.prompt([{"role": "user", "content": "Hi"}])
    rows = model._rows(["Hi"])
    assert rows[0].max_new_tokens == model.max_tokens - len(prompt) == 256 - len(prompt)


def test_tools_thinking_and_forms(model: Model) -> None:
    messages = [{"role": "user", "content": "What time is it?"}]
    (row,) = model._rows([messages], tools=TOOLS, thinking=False)
    assert row.prompt == model.chat.prompt(messages, TOOLS, enable_thinking=False)
    assert row.prompt != model.chat.prompt(messages, TOOLS)
    reply = model.reply(messages, tools=TOOLS, tool_choice="required")
    calls = [{"name": "clock", "arguments": {}}]
    assert reply == {"role": "assistant", "content": "", "tool_calls": calls, "finish_reason": "tool_calls"}
    assert model.predict("Hi", schema=SCHEMA) in ('{"a": 1}', '{"a": 22}')
    assert re.fullmatch("(巴黎|x)+!", model.predict("Hi", regex="(巴黎|x){2,4}!", temperature=1.0))
    thoughtful = model.predict("Hi", regex="!", thinking=True, temperature=1.0, max_new_tokens=200)
    assert re.fullmatch("(<think>.*</think>)?!|<think>.*", thoughtful, re.DOTALL)


def test_scores_are_log_probabilities(model: Model, folder: Path) -> None:
    chat, decoder = Chat(folder), checkpoint.load(folder)
    context, choices = "The capital of France", [" is Paris.", "x", "是巴黎"]
    scores = model.score(context, choices)
    for choice, score in zip(choices, scores, strict=True):
        ids = chat.encode_texts([context + choice])[0]
        before = chat.encode_texts([context])[0]
        assert ids[: len(before)] == before  # no merge across the border in these
        ((expected, _),) = loglikelihood(decoder, [[BOS, *before]], [ids[len(before) :]])
        assert score == pytest.approx(expected, abs=1e-4)
    # A merge across the border: the choice takes the token that both share in.
    (total,) = model.score("The capit", ["al"])
    ids = chat.encode_texts(["The capital"])[0]
    logits = decoder.logits(decoder(torch.tensor([[BOS, *ids]]), torch.ones(1, len(ids) + 1, dtype=torch.int64))[0])
    chances = logits[0, :-1].log_softmax(-1).gather(1, torch.tensor(ids)[:, None])[:, 0]
    before = chat.encode_texts(["The capit"])[0]
    border = next(i for i, token in enumerate(ids) if before[i : i + 1] != [token])
    assert border < len(before)
    assert total == pytest.approx(chances[border:].sum().item(), abs=1e-4)
    with pytest.raises(UserError, match="choice 1 is empty"):
        model.score("a", ["b", ""])


def test_a_draft_writes_the_same(model: Model, folder: Path, tmp_path: Path, tokenizer_folder: Path) -> None:
    student = write(tmp_path / "student", tokenizer_folder, 1, 1)
    drafted = Model(folder, draft=student, device="cpu", dtype="float32", threads=1)
    assert drafted.predict(["Hi", "法国"], max_new_tokens=40) == model.predict(["Hi", "法国"], max_new_tokens=40)
    assert drafted.predict("Hi", schema=SCHEMA) == model.predict("Hi", schema=SCHEMA)
    other = tmp_path / "tokenizer"
    other.mkdir()
    config = TokenizerConfig(vocab_size=300, isolate=True, max_bytes=1 << 20, held_out_share=0.1)
    tokenizer.save(tokenizer.train(["other words, other words"], config), other)
    with pytest.raises(UserError, match="another tokenizer"):
        Model(folder, draft=write(tmp_path / "stranger", other, 0, 1), device="cpu")
    with pytest.raises(UserError, match="draft_tokens is 0"):
        Model(folder, draft=student, draft_tokens=0)


def test_rows_without_a_token_are_never_drawn(
    model: Model, folder: Path, tmp_path: Path, tokenizer_folder: Path
) -> None:
    padded = write(tmp_path / "padded", tokenizer_folder, 0, 2, padding=70)
    options: dict[str, Any] = {"temperature": 1.0, "max_new_tokens": 60}
    num_tokens = tokenizer.load(padded).get_vocab_size()
    chat, prompts = Chat(padded), ["Hi", "法国", "12 + 7"]
    asked = [chat.prompt([{"role": "user", "content": prompt}]) for prompt in prompts]
    drawn = generate(checkpoint.load(padded), asked, max_new_tokens=60, stop=EOS, temperature=1.0)
    assert max(id for ids in drawn for id in ids) >= num_tokens  # they would be
    for quantize in (None, "q8_0"):
        wide = Model(padded, device="cpu", dtype="float32", threads=1, quantize=quantize)
        assert all(wide.predict(prompts, **options))
        assert wide.predict("Hi", schema=SCHEMA) in ('{"a": 1}', '{"a": 22}')
    student = write(tmp_path / "student", tokenizer_folder, 1, 1, padding=5)  # rows of a draft may be others
    assert Model(padded, draft=student, device="cpu", dtype="float32").predict("Hi", **options)
    # What is left is the model without those rows.
    assert torch.equal(wide.decoder.output_weight, checkpoint.load(padded).output_weight[:num_tokens])


def foreign(folder: Path, bos: str | None) -> Path:
    """The folder of a tokenizer with markers of its own, as Qwen's (without `bos`) and Llama's (with it) are."""
    words = Tokenizer(models.BPE())
    words.pre_tokenizer, words.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    words.train_from_iterator(["The capital of France is Paris. Paris lies on the Seine."] * 4, trainer)
    words.add_special_tokens([token for token in (bos, "<|endoftext|>") if token])
    if bos:
        special = [(bos, words.token_to_id(bos))]
        words.post_processor = processors.TemplateProcessing(single=f"{bos} $A", special_tokens=special)
    folder.mkdir()
    words.save(str(folder / "tokenizer.json"))
    files.write_json(folder / "tokenizer_config.json", {"bos_token": bos, "eos_token": "<|endoftext|>"})
    return folder


@pytest.mark.parametrize("bos", [None, "<s>"])
def test_a_model_with_a_tokenizer_of_its_own_takes_plain_text(bos: str | None, tmp_path: Path) -> None:
    folder = write(tmp_path / "theirs", foreign(tmp_path / "words", bos), 0, 2, padding=9)
    model = Model(folder, device="cpu", dtype="float32", threads=1)
    words, decoder = Tokenizer.from_file(str(folder / "tokenizer.json")), checkpoint.load(folder)
    decoder.cut_vocabulary(words.get_vocab_size())
    begin = [words.token_to_id(bos)] if bos else []

    text = "The capital of <|endoftext|>"  # a marker in a text is ordinary characters
    ids = [*begin, *tokenizer.plain(words).encode(text, add_special_tokens=False).ids]
    assert words.token_to_id("<|endoftext|>") not in ids and ids.count(words.token_to_id(bos or "")) == len(begin)
    (expected,) = generate(decoder, [ids], max_new_tokens=30, stop=words.token_to_id("<|endoftext|>"))
    assert model.complete(text, max_new_tokens=30) == words.decode(expected, skip_special_tokens=True)
    (score,) = model.score("The capital", [" of France"])
    context, choice = (words.encode(part, add_special_tokens=False).ids for part in ("The capital", " of France"))
    assert score == pytest.approx(loglikelihood(decoder, [[*begin, *context]], [choice])[0][0], abs=1e-4)
    if bos:
        assert model.complete("", max_new_tokens=3) and model.score("", ["The"])
    else:
        with pytest.raises(UserError, match="the text is empty, and .*theirs has no token that texts begin with"):
            model.complete("")
        with pytest.raises(UserError, match="no token stands before choice 0"):
            model.score("", ["The"])

    for ask in (model.predict, model.reply, model.stream):
        with pytest.raises(UserError, match=r"theirs holds no conversations: .*`complete` and `score` take plain"):
            ask("Hi")
    described = files.read_json(folder / "tokenizer.json") | {"decoder": {"type": "Fuse"}}
    files.write_json(folder / "tokenizer.json", described)
    manifest = files.read_manifest(folder)
    files.write_manifest(folder, {"model": manifest["model"], "lineage": {}})
    model = Model(folder, device="cpu")
    assert model.score("The", [" capital"])
    with pytest.raises(UserError, match=r"theirs/tokenizer.json is no byte-level BPE"):
        model.complete("The")


def test_mistakes_are_named(model: Model, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="prompt 1 has .* tokens, which leaves 0 of the model's 256"):
        model.predict(["Hi", "long " * 300])
    with pytest.raises(UserError, match="lower max_new_tokens"):
        model.stream("Hi", max_new_tokens=256)
    with pytest.raises(UserError, match="temperature is -1"):
        model.stream("Hi", temperature=-1.0)
    with pytest.raises(UserError, match="one form"):
        model.predict("Hi", schema={}, regex="a")
    with pytest.raises(UserError, match="tool_choice is 'always'"):
        model.predict("Hi", tool_choice="always")
    for batch_size in (0, -3):
        with pytest.raises(UserError, match=f"batch_size is {batch_size}, expected 1 or more"):
            model.predict(["Hi"], batch_size=batch_size)
    with pytest.raises(UserError, match="the prompt is int"):
        model.predict(3)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="the role is 'robot'"):
        model.predict([{"role": "robot", "content": ""}])
    monkeypatch.chdir(folder.parents[1])
    (folder.parents[1] / "models").symlink_to(folder.parent)
    assert Model("dpo", device="cpu").folder == Path("models/dpo")
    with pytest.raises(UserError, match="nothing is no folder"):
        Model("nothing")
    with pytest.raises(AttributeError, match="no attribute 'Modle'"):
        minimind.Modle  # noqa: B018


def test_a_reply_says_why_it_ended(model: Model) -> None:
    messages = [{"role": "user", "content": "What time is it?"}]
    cut = model.reply(messages, tools=TOOLS, tool_choice="required", max_new_tokens=2)
    assert (cut["tool_calls"], cut["finish_reason"]) == ([], "length")
    assert model.reply("Hi", schema=SCHEMA, max_new_tokens=1)["finish_reason"] == "length"
    assert model.reply("Hi", schema=SCHEMA)["finish_reason"] == "stop"
    assert model.reply("Hi", regex="!", max_new_tokens=1)["finish_reason"] == "stop"
    assert model.predict([*messages, cut, messages[0]], max_new_tokens=1)  # a reply is a message


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("temprature", "no option temprature; did you mean temperature"),
        ("max_tokens", "no option max_tokens; did you mean max_new_tokens"),
        ("tool", "no option tool; did you mean tools"),
        ("topp", "no option topp; did you mean top_"),
        ("xyz", "no option xyz \\(there are: max_new_tokens"),
    ],
)
def test_an_unknown_option_is_answered_with_the_nearest(model: Model, option: str, says: str) -> None:
    for ask in (model.predict, model.stream, model.reply):
        with pytest.raises(UserError, match=says):
            ask("Hi", **{option: 1})
    if option != "tool":
        with pytest.raises(UserError, match=says):
            model.complete("Hi", **{option: 1})


@pytest.mark.parametrize("options", [{"temperature": "hot"}, {"top_k": 1.5}, {"seed": None}, {"stop": [1]}])
def test_an_option_of_another_type_is_named(model: Model, options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"{next(iter(options))} is .*, expected"):
        model.predict("Hi", **options)


def test_a_model_says_what_it_is(model: Model, folder: Path) -> None:
    shown = repr(model)
    assert repr(str(folder)) in shown and f"{model.decoder.num_parameters():,} parameters" in shown
    assert "256 positions" in shown and "float32 on cpu" in shown
    assert "Q8_0 on cpu" in repr(Model(folder, device="cpu", threads=1, quantize="q8_0"))


def test_rows_that_q8_0_can_not_hold_say_what_to_do(tmp_path: Path, tokenizer_folder: Path) -> None:
    config = ModelConfig(
        hidden_size=24, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, intermediate_size=64,
        vocab_size=512,
    )  # fmt: skip
    checkpoint.save(tmp_path / "odd", Decoder(config).initialise(0), tokenizer_folder, {})
    with pytest.raises(UserError, match=r"hidden_size is 24, and Q8_0 .*: leave `quantize` out .*GGUF"):
        Model(tmp_path / "odd", device="cpu", threads=1, quantize="q8_0")


def test_a_tokenizer_of_another_model_is_named(folder: Path, tmp_path: Path) -> None:
    source, other = folder, tmp_path / "other"
    other.mkdir()
    for path in source.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    described = files.read_json(other / "tokenizer.json")
    size = len(described["model"]["vocab"])
    described["model"]["vocab"]["far"] = size + 4_000_000_000 // 2
    files.write_json(other / "tokenizer.json", described)
    said = files.read_manifest(other)
    (other / files.MANIFEST).unlink()
    files.write_manifest(other, {"model": said["model"]})
    with pytest.raises(UserError, match=r"tokenizer.json has a token with id [0-9]+, and the model's embedding"):
        Model(other, device="cpu", threads=1)
