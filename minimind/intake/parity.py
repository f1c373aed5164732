"""Whether an imported model computes what its source does, by the class that its source was made for.

transformers is no dependency of ours, and a model twice in one process is one too many. So it runs in a process of its
own, where it is installed, and leaves its logits in a file.
"""

import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from minimind.intake.origin import IntakeError
from minimind.model import Decoder

TOLERANCE = 1e-4  # of the largest logit: rounding in fp32, summed over the layers
SHAPE = (2, 48)  # sequences, tokens

PROGRAM = """
import sys, torch, transformers
from safetensors.torch import load_file, save_file
folder, given, out = sys.argv[1:]
transformers.logging.set_verbosity_error()
model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
with torch.inference_mode():
    save_file({"logits": model.eval()(load_file(given)["ids"]).logits.contiguous()}, out)
"""


def installed() -> bool:
    """Whether there is a transformers to compare with."""
    return importlib.util.find_spec("transformers") is not None


@torch.inference_mode()
def difference(model: Decoder, folder: Path) -> float:
    """The largest difference of logits between `model` and the one in `folder`, as a share of the largest logit.

    Both read the same random tokens, in fp32. Raises IntakeError if transformers can't load the folder, or if it
    computes something else.
    """
    tokens = min(SHAPE[1], model.config.max_position_embeddings)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(model.config.vocab_size, (SHAPE[0], tokens), generator=generator)
    with tempfile.TemporaryDirectory() as temporary:
        given, out = Path(temporary, "ids.safetensors"), Path(temporary, "logits.safetensors")
        save_file({"ids": ids}, given)
        command = [sys.executable, "-c", PROGRAM, str(folder), str(given), str(out)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            raise IntakeError(f"transformers can't compute with {folder}, to compare: {lines[-1]}")
        theirs = load_file(out)["logits"]
    ours = model.logits(model(ids, torch.ones_like(ids))[0])
    found = float((ours - theirs).abs().max() / theirs.abs().max())
    if not found <= TOLERANCE:
        raise IntakeError(
            f"our model and transformers' compute different logits from {folder}: they differ by {found:.1e} of the "
            f"largest, and rounding explains {TOLERANCE:.0e}; nothing was written"
        )
    return found
