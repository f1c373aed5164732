"""Pushing to a stand-in for the hub, and what a refusal looks like."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from toy.models import random_model

from minimind import Model, checkpoint, cli, files
from minimind.errors import UserError

Output = pytest.CaptureFixture[str]


def test_the_repository_holds_what_was_exported(
    hub: Any, checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.chdir(tmp_path)
    source = str(checkpoints["llama"])
    assert cli.main(["export", source, "--dtype", "bf16", "--push-to-hub", "me/small"]) == 0
    pushed = f"pushed: {hub.address}/me/small/commit/{hub.commit('me/small')}"
    assert capsys.readouterr().out.splitlines()[-1] == pushed
    folder = Path("exports/llama/hf-bf16")
    assert hub.files["me/small"] == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert hub.messages == ["llama as hf"]
    files.verify_manifest(folder)
    card = huggingface_hub.ModelCard(hub.files["me/small"]["README.md"].decode())
    said = (card.data.license, card.data.library_name, card.data.pipeline_tag, card.data.base_model)
    assert said == ("apache-2.0", "transformers", "text-generation", None)

    assert cli.main(["export", source, "--to", "gguf", "--push-to-hub", "me/small"]) == 0
    assert "llama-f32.gguf" in hub.files["me/small"] and len(hub.files["me/small"]) == 8


def test_a_refusal_is_told_in_a_line(
    hub: Any, checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.chdir(tmp_path)
    hub.refuse = 403
    assert cli.main(["export", str(checkpoints["llama"]), "--push-to-hub", "me/small"]) == 1
    said = capsys.readouterr().err
    assert "me/small could not be pushed" in said and "You may not." in said
    assert "what was exported stays in exports/llama/hf-f32" in said
    assert cli.main(["export", str(checkpoints["llama"]), "--push-to-hub", "no/such/name"]) == 1
    assert "no/such/name could not be pushed" in capsys.readouterr().err


def test_a_model_is_named_by_its_place_on_the_hub(
    hub: Any, checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for kind in ("llama", "qwen3"):
        assert cli.main(["export", str(checkpoints[kind]), "--push-to-hub", f"me/{kind}"]) == 0
    options: dict[str, Any] = {"device": "cpu", "dtype": "float32", "threads": 1}
    local = Model(checkpoints["llama"], **options)
    for name in ("me/llama", f"me/llama@{hub.commit('me/llama')}", "hf://me/llama@main"):
        model = Model(name, draft="me/llama", **options)
        assert model.folder.name == hub.commit("me/llama")
        assert model.predict("Hi", max_new_tokens=9) == local.predict("Hi", max_new_tokens=9)
    with pytest.raises(UserError, match="hf://me/none could not be fetched"):
        Model("me/none", **options)
    del hub.files["me/qwen3"]["manifest.json"]
    with pytest.raises(UserError, match="`minimind import hf://me/qwen3 models/theirs` makes one"):
        Model("me/qwen3", **options)
    for name in ("models/nothing", "exports/nothing", "no/such/name", "nothing"):
        with pytest.raises(UserError, match=f"{name} is no folder"):
            Model(name, **options)


def test_shared_experts_come_with_their_code_and_without_running_it(
    hub: Any, checkpoints: dict[str, Path], tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    shared = random_model(replace(checkpoint.load(checkpoints["experts"]).config, num_shared_experts=1))
    checkpoint.save(tmp_path / "models" / "mixture", shared, tokenizer_folder, {})
    assert cli.main(["export", "models/mixture", "--push-to-hub", "me/mixture"]) == 0
    (tmp_path / "models" / "mixture").rename(tmp_path / "kept")
    options: dict[str, Any] = {"device": "cpu", "dtype": "float32", "threads": 1}
    assert Model("me/mixture", **options).predict("Hi", max_new_tokens=4) == Model("kept", **options).predict(
        "Hi", max_new_tokens=4
    )
