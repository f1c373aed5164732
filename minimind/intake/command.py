"""The subcommand `minimind import`: someone else's model becomes a checkpoint here."""

import argparse
import tempfile
from pathlib import Path

from minimind import checkpoint, files
from minimind.chat import Chat
from minimind.errors import UserError
from minimind.intake import assumptions, huggingface, origin, parity, pth, vocabulary
from minimind.intake.huggingface import Foreign
from minimind.intake.origin import IntakeError
from minimind.model import Decoder


def main(options: argparse.Namespace) -> None:
    """Read, compare, write, and say what was compared. Raises UserError."""
    found = origin.locate(options.source)
    if options.out.exists():
        raise IntakeError(f"{options.out} exists: name another place, or remove it first")
    folder = found.path if found.path.is_dir() else None
    for option, wish in (("--set", options.set), ("--reference", options.reference)):
        if folder is not None and wish:
            raise IntakeError(f"{option} is for MiniMind's *.pth: what {folder} is, its config.json says")
    foreign = pth.read(found.path, options.set) if folder is None else huggingface.read(folder)
    model = build(foreign, found.path)
    with tempfile.TemporaryDirectory() as temporary:
        used = [*foreign.used, *_tokenizer(folder, options.tokenizer, Path(temporary), found.path)]
        vocabulary.check_size(Path(temporary), model.config.vocab_size)
        checked = compare(model, folder, found.path, options.reference, foreign)
        checkpoint.save(options.out, model, Path(temporary), lineage(found, used, foreign), foreign.generation)
    print(f"{options.out}: {model.num_parameters():,} parameters of {found.source}. {checked}")
    print(conversations(options.out))


def conversations(folder: Path) -> str:
    """In words, whether the checkpoint in `folder` can be talked to, and by whose chat template."""
    try:
        foreign = Chat(folder).why_foreign
    except UserError as error:
        return f"note: it holds no conversations ({error}); `complete` and `score` of minimind.Model take plain text"
    return f"Talk with it: minimind chat {folder}{' (its own chat template is rendered as it is)' if foreign else ''}"


def build(foreign: Foreign, path: Path) -> Decoder:
    """Our model with the foreign weights. Raises CheckpointError naming the first weight that differs."""
    checkpoint.check_fit(foreign.config, foreign.weights, path)
    model = Decoder(foreign.config)
    model.load_state_dict(foreign.weights, strict=True)
    return model


def compare(model: Decoder, folder: Path | None, path: Path, reference: Path | None, foreign: Foreign) -> str:
    """Compare the logits with those of the source, where something can compute them; say in words what was done."""
    if folder is None:
        assumed = assumptions.in_words(foreign.config, foreign.assumed) if foreign.assumed else ""
        if reference is None:
            return (
                "Its names and shapes are MiniMind's; logits were not compared, name a checkout of MiniMind with "
                f"--reference to have it done. {assumed}"
            ).rstrip()
        found = parity.difference_from_minimind(model, path, reference, foreign.told)
        return f"Its logits equal those of MiniMind's class in {reference} but for {found:.1e} of the largest"
    if not parity.installed():
        return (
            "Its names, shapes and config are those of our model; logits were not compared, since transformers is "
            "not installed (pip install transformers)"
        )
    return f"Its logits equal transformers' but for {parity.difference(model, folder):.1e} of the largest"


def lineage(found: origin.Origin, used: list[Path], foreign: Foreign) -> dict[str, object]:
    """Where an imported checkpoint comes from: source, revision, the digest of every file that was read, and, of a
    file of weights, what was said of it and what was assumed.
    """
    more: dict[str, object] = {"told": foreign.told, "assumed": foreign.assumed} if found.path.is_file() else {}
    return more | {
        "stage": "import",
        "source": found.source,
        "revision": found.revision,
        "inputs": {path.name: files.sha256(path) for path in sorted(used, key=lambda path: path.name)},
    }


def _tokenizer(folder: Path | None, given: Path | None, out: Path, path: Path) -> list[Path]:
    """Put the model's tokenizer into `out`; return the files it was read from."""
    if folder is None:
        if given is None:
            raise IntakeError(f"{path} comes without a tokenizer: name the folder of MiniMind's with --tokenizer")
        return vocabulary.carry(given, out)
    if given is not None:
        if not (folder / "tokenizer.json").is_file():
            raise IntakeError(f"{folder} has no tokenizer.json, so it can't be compared with the one in {given}")
        vocabulary.check_equal(folder, given)
    return vocabulary.carry(given or folder, out)
