"""Pushing to a stand-in for the hub, and what a refusal looks like."""

from pathlib import Path
from typing import Any

import pytest

from minimind import cli, files

Output = pytest.CaptureFixture[str]


def test_the_repository_holds_what_was_exported(
    hub: Any, checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.chdir(tmp_path)
    source = str(checkpoints["llama"])
    assert cli.main(["export", source, "--dtype", "bf16", "--push-to-hub", "me/small"]) == 0
    pushed = f"pushed: {hub.address}/me/small/commit/{hub.commit('me/small')}"
    assert capsys.readouterr().out.splitlines()[-1] == pushed
    folder = Path("exports/llama/hf")
    assert hub.files["me/small"] == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert hub.messages == ["llama as hf"]
    files.verify_manifest(folder)

    assert cli.main(["export", source, "--to", "gguf", "--push-to-hub", "me/small"]) == 0
    assert "llama-f32.gguf" in hub.files["me/small"] and len(hub.files["me/small"]) == 7


def test_a_refusal_is_told_in_a_line(
    hub: Any, checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.chdir(tmp_path)
    hub.refuse = 403
    assert cli.main(["export", str(checkpoints["llama"]), "--push-to-hub", "me/small"]) == 1
    said = capsys.readouterr().err
    assert "me/small could not be pushed" in said and "You may not." in said
    assert "what was exported stays in exports/llama/hf" in said
    assert cli.main(["export", str(checkpoints["llama"]), "--push-to-hub", "no/such/name"]) == 1
    assert "no/such/name could not be pushed" in capsys.readouterr().err
