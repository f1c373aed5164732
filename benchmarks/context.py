"""How well a checkpoint predicts beyond the length it was trained on, with YaRN and without.

    python -m benchmarks.context models/pretrain data/packed/pretrain [--factor 4] [--plot docs/context.png]

The held-out documents are laid behind each other as one, so that each position has as many tokens before it as its
number says. Reported are bits per byte for ranges of positions.
"""

import argparse
import json
import math
from pathlib import Path

import matplotlib as mpl
import torch
import torch.nn.functional as F
from torch import Tensor

from minimind import checkpoint, files, hardware, tokenizer
from minimind.config import Runtime
from minimind.errors import UserError
from minimind.model import Decoder, RopeScaling
from minimind.rows import Rows

mpl.use("Agg")
from matplotlib import pyplot as plt


def long_documents(packed: Path, length: int, most: int) -> Tensor:
    """At most `most` stretches of `length` tokens, (N, length) int64. Raises UserError if there is not one."""
    rows = Rows.open(packed, "validation")
    tokens, documents = rows.column("tokens"), rows.column("documents")
    ids = torch.from_numpy(tokens[documents > 0].astype("int64"))
    number = min(most, len(ids) // length)
    if not number:
        raise UserError(f"{packed}: {len(ids)} held-out tokens, {length} are needed: lower --factor")
    return ids[: number * length].view(number, length)


@torch.no_grad()
def measure(model: Decoder, ids: Tensor, num_bytes: Tensor, width: int) -> list[float]:
    """Bits per byte of the tokens in each range of `width` positions. ids (N, T); num_bytes (V,) of each token."""
    nats = torch.zeros(ids.shape[1], dtype=torch.float64)
    for rows in ids.to(model.cos.device).split(4):
        logits = model.logits(model(rows, torch.ones_like(rows))[0])[:, :-1]
        losses = F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten(), reduction="none")
        nats[1:] += losses.view(len(rows), -1).sum(0).double().cpu()
    told = num_bytes[ids].sum(0)
    told[0] = 0  # the first token is given
    return [
        (nats[start : start + width].sum() / math.log(2) / told[start : start + width].sum()).item()
        for start in range(0, ids.shape[1], width)
    ]


def draw(path: Path, curves: dict[str, list[float]], width: int, trained: int) -> None:
    """The curves over position, with the length of training marked."""
    figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    for (label, values), style in zip(curves.items(), ("C1o-", "C0o-"), strict=True):
        middles = [(number + 0.5) * width for number in range(len(values))]
        axes.plot(middles, values, style, label=label, markersize=3)
    axes.axvline(trained, color="grey", linewidth=1, linestyle="--", label="length of training")
    axes.set(xlabel="position, tokens", ylabel="bits per byte", xlim=(0, len(values) * width), ylim=(0, None))
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, metadata={"Software": None})  # equal numbers, equal bytes


def main() -> None:
    """Measure, print a table in Markdown, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("packed", type=Path, help="the packed rows it was trained on")
    parser.add_argument("--factor", type=float, default=4.0, help="how many times the length of training")
    parser.add_argument("--most", type=int, default=128, help="long documents to measure on")
    parser.add_argument("--plot", type=Path, default=Path("docs/context.png"))
    options = parser.parse_args()
    device, _ = hardware.setup(Runtime(dtype="float32", compile="off"))
    trained = Rows.open(options.packed, "train").row_length
    scaling = RopeScaling(options.factor, trained)
    length, width = int(options.factor * trained), trained // 4
    model = checkpoint.load(options.checkpoint).to(device)
    ids = long_documents(options.packed, length, options.most)
    num_bytes = torch.tensor(tokenizer.token_bytes(tokenizer.load(options.checkpoint)), dtype=torch.float64)
    # A table that is long enough, and no scaling: a factor of 1 changes no frequency and no scale.
    plain = measure(model.rescale(RopeScaling(1.0, length)), ids, num_bytes, width)
    curves = {"without": plain, "with YaRN": measure(model.rescale(scaling), ids, num_bytes, width)}

    print(f"{options.checkpoint}: trained on {trained} tokens, {len(ids)} documents of {length}, bits per byte\n")
    print("| positions | without | with YaRN |\n| :-- | --: | --: |")
    for number, values in enumerate(zip(*curves.values(), strict=True)):
        print(f"| {number * width}–{(number + 1) * width - 1} | " + " | ".join(f"{x:.3f}" for x in values) + " |")
    draw(options.plot, curves, width, trained)
    details = {"trained": trained, "factor": options.factor, "width": width, "bits_per_byte": curves}
    print(json.dumps({"manifest": files.sha256(options.checkpoint / files.MANIFEST), **details}))


if __name__ == "__main__":
    main()
