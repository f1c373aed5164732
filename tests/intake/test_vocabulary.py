"""Whose tokenizer an imported model speaks, and what is said when it is another."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from minimind import Model, checkpoint, cli, files, tokenizer
from minimind.errors import UserError
from minimind.generate import generate
from minimind.intake import parity, vocabulary
from minimind.intake.origin import IntakeError
from minimind.tokenizer import TokenizerConfig

Output = pytest.CaptureFixture[str]


def changed(source: Path, out: Path, change: Any) -> Path:
    """The tokenizer's folder `source` after change(tokenizer.json's value)."""
    out.mkdir()
    described = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    change(described)
    (out / "tokenizer.json").write_text(json.dumps(described), encoding="utf-8")
    (out / "tokenizer_config.json").write_bytes((source / "tokenizer_config.json").read_bytes())
    return out


def test_equal_tokenizers_may_be_written_differently(tokenizer_folder: Path, tmp_path: Path) -> None:
    def rewrite(described: dict[str, Any]) -> None:
        merges = described["model"]["merges"]
        described["model"]["merges"] = [" ".join(merge) if isinstance(merge, list) else merge for merge in merges]
        described["model"]["vocab"] = dict(sorted(described["model"]["vocab"].items()))

    vocabulary.check_equal(changed(tokenizer_folder, tmp_path / "same", rewrite), tokenizer_folder)


def test_a_difference_is_explained(tokenizer_folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    config = TokenizerConfig(vocab_size=400, isolate=False, max_bytes=1000, held_out_share=0.1)
    tokenizer.save(tokenizer.train(["quite another text, quite another text"], config), other)
    with pytest.raises(IntakeError, match=r"tokens, \d+ of them differ, the first is '.*' with id .*pack the data"):
        vocabulary.check_equal(other, tokenizer_folder)

    def swap(described: dict[str, Any]) -> None:
        described["model"]["merges"].reverse()

    with pytest.raises(IntakeError, match="but other merges"):
        vocabulary.check_equal(changed(tokenizer_folder, tmp_path / "merges", swap), tokenizer_folder)

    def whole(described: dict[str, Any]) -> None:
        described["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": True, "use_regex": True}

    with pytest.raises(IntakeError, match="but other pre_tokenizer"):
        vocabulary.check_equal(changed(tokenizer_folder, tmp_path / "words", whole), tokenizer_folder)


def test_the_command_carries_or_compares(
    checkpoints: dict[str, Path],
    tokenizer_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Output,
) -> None:
    monkeypatch.setattr(parity, "installed", lambda: False)
    source = tmp_path / "source"
    source.mkdir()
    for path in checkpoints["llama"].iterdir():
        (source / path.name).write_bytes(path.read_bytes())
    described = files.read_json(source / "tokenizer_config.json")
    template = described.pop("chat_template")
    described |= {"bos_token": None, "eos_token": {"content": described["eos_token"], "lstrip": False}}
    files.write_json(source / "tokenizer_config.json", described)
    files.write_text(source / "chat_template.jinja", template)

    assert cli.main(["import", str(source), str(tmp_path / "carried")]) == 0
    carried = files.read_json(tmp_path / "carried" / "tokenizer_config.json")
    assert (carried["chat_template"], carried["eos_token"]) == (template, "<|im_end|>")
    config = files.read_json(tmp_path / "carried" / "config.json")
    assert config["eos_token_id"] == 2 and "bos_token_id" not in config
    assert "chat_template.jinja" in files.read_manifest(tmp_path / "carried")["lineage"]["inputs"]

    assert cli.main(["import", str(source), str(tmp_path / "b"), "--tokenizer", str(tokenizer_folder)]) == 0
    assert checkpoint.special_ids(tmp_path / "b") == {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}

    def add(described: dict[str, Any]) -> None:
        described["added_tokens"].append({**described["added_tokens"][0], "id": 700, "content": "<far>"})

    larger = changed(source, tmp_path / "larger", add)
    capsys.readouterr()
    assert cli.main(["import", str(source), str(tmp_path / "c"), "--tokenizer", str(larger)]) == 1
    assert "'<far>' with id None against 700" in capsys.readouterr().err
    for path in larger.iterdir():
        (source / path.name).write_bytes(path.read_bytes())
    assert cli.main(["import", str(source), str(tmp_path / "c")]) == 1
    assert "a token with id 700, and the model's embedding has 512 rows" in capsys.readouterr().err
    (source / "tokenizer.json").unlink()
    assert cli.main(["import", str(source), str(tmp_path / "c")]) == 1
    assert "tokenizer.json is missing" in capsys.readouterr().err
    assert cli.main(["import", str(tmp_path / "carried"), str(tmp_path / "carried")]) == 1
    assert "carried exists" in capsys.readouterr().err


def foreign(source: Path, out: Path, change: Any) -> Path:
    """The checkpoint `source` as a model of others: other markers for turns, and change(tokenizer_config.json)."""
    out.mkdir()
    for path in source.iterdir():
        text = path.read_text(encoding="utf-8") if "tokenizer" in path.name else None
        content = path.read_bytes() if text is None else text.replace("<|im_", "<|turn_").encode()
        (out / path.name).write_bytes(content)
    files.write_json(out / "tokenizer_config.json", change(files.read_json(out / "tokenizer_config.json")))
    return out


def test_a_model_with_markers_of_its_own_can_be_talked_to(
    checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(parity, "installed", lambda: False)
    foreign(checkpoints["qwen3"], Path("source"), lambda described: described)
    assert cli.main(["import", "source", "models/theirs"]) == 0
    said = capsys.readouterr().out
    assert "Talk with it: minimind chat models/theirs (its own chat template is rendered as it is)" in said
    model = Model("theirs", device="cpu", dtype="float32", threads=1)
    assert model.complete("Paris", max_new_tokens=20) and len(model.score("Paris", [" lies", " is"])) == 2
    conversation = [{"role": "user", "content": "Hi"}]
    prompt = AutoTokenizer.from_pretrained("models/theirs").apply_chat_template(
        conversation, add_generation_prompt=True, return_dict=False
    )
    assert model.chat.prompt(conversation) == prompt and model.chat.stop == 2
    answer = generate(model.decoder, [prompt], max_new_tokens=20, stop=2)[0]
    assert model.predict("Hi", max_new_tokens=20) == model.chat.tokenizer.decode(answer)
    assert model.predict("Hi", regex="[ab]{3}") in {a + b + c for a in "ab" for b in "ab" for c in "ab"}
    with pytest.raises(UserError, match="has other markers than MiniMind's, so neither tool_choice='required'"):
        model.predict("Hi", tools=[{"name": "f"}], tool_choice="required")
    Path("params.yaml").write_text("runtime: {device: cpu}\n")
    assert cli.main(["chat", "--transcript", "--max-new-tokens", "3", "models/theirs", "Hi"]) == 0
    assert "model  │" in capsys.readouterr().out


def test_a_model_without_a_chat_template_says_what_it_is_good_for(
    checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(parity, "installed", lambda: False)
    foreign(checkpoints["qwen3"], Path("source"), lambda described: described | {"chat_template": None})
    assert cli.main(["import", "source", "models/theirs"]) == 0
    said = capsys.readouterr().out
    assert "note: it holds no conversations" in said and "has no chat_template" in said and "`complete`" in said
    model = Model("theirs", device="cpu", dtype="float32", threads=1)
    assert model.complete("Paris", max_new_tokens=20)
    Path("params.yaml").write_text("runtime: {device: cpu}\n")
    assert cli.main(["chat", "models/theirs", "Hi"]) == 1
    assert "models/theirs holds no conversations" in capsys.readouterr().err
