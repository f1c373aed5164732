"""Whether an imported model computes what its source does, by the class that its source was made for.

Of MiniMind's own files that is the class in a checkout of it, where one is given.

transformers is no dependency of ours, and a model twice in one process is one too many. So it runs in a process of its
own, where it is installed, and leaves its logits in a file.
"""

import dataclasses
import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from minimind.intake.assumptions import FREE, FREE_OF_EXPERTS, SHAPED
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


# MiniMind's class takes what shapes tell under the names of all its times; of what they leave open it takes what was
# said, and else has what its own code has: so a checkout in which that was changed shows here.
MINIMIND = """
import json, sys, torch
from safetensors.torch import load_file, save_file
checkout, path, config, given, out = sys.argv[1:]
sys.path.insert(0, checkout)
from model.model_minimind import MiniMindConfig, MiniMindForCausalLM
config = MiniMindConfig(**json.loads(config))
model = MiniMindForCausalLM(config).eval()
weights = {name: tensor.float() for name, tensor in torch.load(path, map_location="cpu", weights_only=True).items()}
missing, strangers = model.load_state_dict(weights, strict=False)
strangers += [name for name in missing if name != "lm_head.weight"]
if strangers:
    sys.exit(f"its class and the file don't have the same weights: {strangers[0]}")
with torch.inference_mode():
    save_file({"logits": model(load_file(given)["ids"]).logits.float().contiguous()}, out)
print(json.dumps({key: getattr(config, key, None) for key in %r}))
"""


def installed() -> bool:
    """Whether there is a transformers to compare with."""
    return importlib.util.find_spec("transformers") is not None


def difference(model: Decoder, folder: Path) -> float:
    """The largest difference of logits between `model` and the one in `folder`, as a share of the largest logit.

    Both read the same random tokens, in fp32. Raises IntakeError if transformers can't load the folder, or if it
    computes something else.
    """
    found, _ = _compared(model, PROGRAM, [str(folder)], f"transformers can't compute with {folder}, to compare")
    if not found <= TOLERANCE:
        raise IntakeError(
            f"our model and transformers' compute different logits from {folder}: they differ by {found:.1e} of the "
            f"largest, and rounding explains {TOLERANCE:.0e}; nothing was written"
        )
    return found


def difference_from_minimind(model: Decoder, path: Path, checkout: Path, told: Mapping[str, Any]) -> float:
    """The same, to MiniMind's own class in `checkout` with the weights of the file `path`.

    told: what was said of the model, by key of ModelConfig. Raises IntakeError, also naming what that checkout has
    otherwise than we do.
    """
    if not (checkout / "model" / "model_minimind.py").is_file():
        raise IntakeError(f"--reference {checkout} is no checkout of MiniMind: it has no model/model_minimind.py")
    ours = dataclasses.asdict(model.config)
    shaped = {key: ours[key] for key in (*SHAPED, "tie_word_embeddings")}
    shaped |= {"n_routed_experts": ours["num_experts"], "n_shared_experts": ours["num_shared_experts"]}
    if ours["qk_norm"]:
        shaped["num_attention_heads"] = ours["num_attention_heads"]
    described = shaped | {key: ours[key] for key in told}
    asked = [key for key in (*FREE, *FREE_OF_EXPERTS) if ours["use_moe"] or key in FREE]
    arguments = [str(checkout.resolve()), str(path), json.dumps(described)]
    program = MINIMIND % (asked,)
    found, printed = _compared(model, program, arguments, f"MiniMind's class in {checkout} can't compute with {path}")
    if not found <= TOLERANCE:
        theirs = json.loads(printed)
        others = [key for key in asked if theirs[key] not in (None, ours[key]) and key != "max_position_embeddings"]
        hint = "".join(f"; it has {key} {theirs[key]}, assumed was {ours[key]}: --set {key}={json.dumps(theirs[key])}"
                       for key in others)  # fmt: skip
        raise IntakeError(
            f"our model and MiniMind's class in {checkout} compute different logits from {path}: they differ by "
            f"{found:.1e} of the largest, and rounding explains {TOLERANCE:.0e}; nothing was written{hint}"
        )
    return found


@torch.inference_mode()
def _compared(model: Decoder, program: str, arguments: list[str], failed: str) -> tuple[float, str]:
    """The largest difference from the logits of a program's, and what it printed. Raises IntakeError, with `failed`."""
    tokens = min(SHAPE[1], model.config.max_position_embeddings)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(model.config.vocab_size, (SHAPE[0], tokens), generator=generator)
    with tempfile.TemporaryDirectory() as temporary:
        given, out = Path(temporary, "ids.safetensors"), Path(temporary, "logits.safetensors")
        save_file({"ids": ids}, given)
        command = [sys.executable, "-c", program, *arguments, str(given), str(out)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            raise IntakeError(f"{failed}: {lines[-1]}")
        theirs = load_file(out)["logits"]
    ours = model.logits(model(ids, torch.ones_like(ids))[0])
    return float((ours - theirs).abs().max() / theirs.abs().max()), done.stdout
