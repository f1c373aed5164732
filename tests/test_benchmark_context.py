"""YaRN lets a model that is trained here predict text further on than the rows it was trained on."""

from pathlib import Path

import orjson
import pytest
import torch

from benchmarks import context, trial
from minimind import hardware, tokenizer
from minimind.atlas import world
from minimind.batches import Batches, Source
from minimind.config import Runtime
from minimind.model import Decoder, ModelConfig, RopeScaling
from minimind.objectives.language import Language
from minimind.packing import PackConfig, pack
from minimind.pool import Local
from minimind.rows import Rows
from minimind.tokenizer import TokenizerConfig
from minimind.train import TrainConfig, train

TRAINED, FACTOR = 64, 4
MODEL = ModelConfig(64, 3, 2, 2, 160, max_position_embeddings=TRAINED, qk_norm_init=1.6)
CONFIG = TrainConfig(batch_size=32, steps=150, log_every=150, validate_every=150, save_every=150)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Short rows of the atlas's documents, and their vocabulary beside them."""
    root = tmp_path_factory.mktemp("atlas")
    records = list(world.generate("pretrain", 3000, 1))
    (root / "pretrain").mkdir()
    (root / "pretrain/0.jsonl").write_bytes(b"".join(orjson.dumps(record) + b"\n" for record in records))
    (root / "tokenizer").mkdir()
    config = TokenizerConfig(vocab_size=1024, isolate=True, max_bytes=1 << 20, held_out_share=0.1)
    tokenizer.save(tokenizer.train([record["text"] for record in records], config), root / "tokenizer")
    with Local(1) as pool:
        rows = PackConfig(TRAINED, 0.1, 0.0, 0.0)
        pack(root / "pretrain", root / "tokenizer", rows, root / "packed", pool, root / "scratch", root / "kept")
    return root / "packed"


def test_perplexity_beyond_the_length_of_training_improves(packed: Path) -> None:
    runtime = Runtime("cpu", compile="off")
    _, dtype = hardware.setup(runtime)
    rows = Rows.open(packed, "train")
    model = Decoder(MODEL.with_vocabulary(rows.vocab_size), dtype).initialise(1)
    batches = Batches([Source(rows)], CONFIG.batch_size, 1)
    curve = packed / "curve.tsv"
    train(
        model, Language(), batches, CONFIG, validate=lambda model: {}, resume=trial.Stateless(), run=None,
        runtime=runtime, curve=curve,
    )  # fmt: skip
    ids = context.long_documents(packed, FACTOR * TRAINED, 64)
    sizes = torch.tensor(tokenizer.token_bytes(tokenizer.load(packed.parent / "tokenizer")), dtype=torch.float64)
    plain = context.measure(model.rescale(RopeScaling(1.0, FACTOR * TRAINED)), ids, sizes, TRAINED)
    scaled = context.measure(model.rescale(RopeScaling(float(FACTOR), TRAINED)), ids, sizes, TRAINED)
    assert all(with_yarn < without for without, with_yarn in zip(plain[2:], scaled[2:], strict=True))
    assert plain[0] < plain[-1], "without YaRN it is lost beyond its rows"
