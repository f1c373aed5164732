"""ONNX in onnxruntime, prefill and step by step, against our own model."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from minimind import checkpoint
from minimind.export import contents as reading
from minimind.export import onnx
from minimind.generate import generate
from minimind.model import RopeScaling

torch.set_num_threads(1)

PROMPTS = [[1, 60, 300, 41, 7, 200, 90, 91], [1, 99, 98, 97]]


class Session:
    """onnxruntime on an exported folder, with its cache."""

    def __init__(self, folder: Path):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        path = folder / "onnx" / "model.onnx"
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.past = {entry.name: entry.shape for entry in self.session.get_inputs() if "past" in entry.name}
        self.cache: dict[str, np.ndarray] = {}

    def __call__(self, ids: list[list[int]], mask: list[list[int]], positions: list[list[int]]) -> torch.Tensor:
        """Logits (B, T, V) of new tokens behind those that it was given before."""
        for name, (_, groups, _, width) in self.past.items():
            self.cache.setdefault(name, np.zeros((len(ids), groups, 0, width), np.float32))
        given = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
        logits, *present = self.session.run(
            None, {name: np.array(value, dtype=np.int64) for name, value in given.items()} | self.cache
        )
        names = [entry.name.replace("present", "past_key_values") for entry in self.session.get_outputs()[1:]]
        self.cache = dict(zip(names, present, strict=True))
        return torch.from_numpy(logits)


@pytest.mark.parametrize("kind", ["llama", "qwen3", "experts", "experts-top1-tied"])
def test_onnxruntime_computes_the_same(kind: str, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    onnx.write(reading.read(checkpoints[kind]), tmp_path / "out")
    model, session = checkpoint.load(checkpoints[kind]), Session(tmp_path / "out")
    prompt = PROMPTS[0]
    whole = session([prompt], [[1] * 8], [list(range(8))])
    ids = torch.tensor([prompt])
    with torch.no_grad():
        torch.testing.assert_close(whole, model.logits(model(ids, torch.ones_like(ids))[0]), rtol=1e-4, atol=1e-4)

    words, logits = list(prompt), whole
    for step in range(64):
        words.append(int(logits[0, -1].argmax()))
        logits = session([[words[-1]]], [[1] * (9 + step)], [[8 + step]])
    assert words[8:] == generate(model, [prompt], max_new_tokens=64, stop=-1)[0]


def test_positions_are_stretched_as_ours(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    model = checkpoint.load(checkpoints["qwen3"]).rescale(RopeScaling(4.0, 64))
    checkpoint.save(tmp_path / "model", model, checkpoints["qwen3"], {})
    onnx.write(reading.read(tmp_path / "model"), tmp_path / "out")
    ids = torch.randint(36, 300, (1, 150), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours = model.logits(model(ids, torch.ones_like(ids))[0])
    theirs = Session(tmp_path / "out")(ids.tolist(), [[1] * 150], [list(range(150))])
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-4)


def test_a_batch_is_padded_on_the_left_as_usual(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    onnx.write(reading.read(checkpoints["experts"]), tmp_path / "out")
    model, session = checkpoint.load(checkpoints["experts"]), Session(tmp_path / "out")
    short = PROMPTS[1]
    mask = [[1] * 8, [0] * 4 + [1] * 4]
    positions = [[*range(8)], [0] * 4 + [*range(4)]]
    logits = session([PROMPTS[0], [0] * 4 + short], mask, positions)
    ids = torch.tensor([short])
    with torch.no_grad():
        alone = model.logits(model(ids, torch.ones_like(ids))[0])[0]
    torch.testing.assert_close(logits[1, 4:], alone, rtol=1e-4, atol=1e-4)


def test_large_weights_go_into_a_file_of_their_own(
    checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = reading.read(checkpoints["qwen3"])
    onnx.write(contents, tmp_path / "one")
    monkeypatch.setattr(onnx, "MAX_FILE_BYTES", 1000)
    onnx.write(contents, tmp_path / "two")
    assert [path.name for path in sorted((tmp_path / "two" / "onnx").iterdir())] == ["model.onnx", "model.onnx_data"]
    given = [PROMPTS[1]], [[1] * 4], [[0, 1, 2, 3]]
    assert Session(tmp_path / "one")(*given).equal(Session(tmp_path / "two")(*given))
    assert {path.name for path in (tmp_path / "two").iterdir()} == {
        "README.md", "config.json", "generation_config.json", "onnx", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
