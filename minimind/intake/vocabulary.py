"""The tokenizer of a foreign model: carried over, or compared with one that it must equal."""

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from minimind import checkpoint, files, tokenizer
from minimind.chat import PROBE, Chat
from minimind.errors import UserError
from minimind.intake.origin import IntakeError

NOT_CARRIED = ("backend", "is_local", "local_files_only", "auto_map")


def carry(folder: Path, out: Path) -> list[Path]:
    """Copy the tokenizer in `folder` into `out` in the form in which ours are written; return the files read.

    A chat template in a file of its own moves into tokenizer_config.json, markers written as objects become text, and
    the class is the one that reads tokenizer.json as it is: that which transformers 5 writes, 4 does not know. Raises
    IntakeError if a file is missing.
    """
    for name in checkpoint.TOKENIZER_FILES:
        if not (folder / name).is_file():
            raise IntakeError(f"{folder / name} is missing: give the model's tokenizer with --tokenizer FOLDER")
    tokenizer.read(folder)
    described = tokenizer.read_config(folder)
    for role in ("bos_token", "eos_token", "pad_token", "unk_token"):
        if isinstance(described.get(role), dict):
            described[role] = described[role].get("content")
    described = {key: value for key, value in described.items() if key not in NOT_CARRIED}
    described["tokenizer_class"] = "PreTrainedTokenizerFast"
    if isinstance(described.get("extra_special_tokens"), list):  # transformers 5's; 4 expects names with values there
        described["additional_special_tokens"] = described.pop("extra_special_tokens")
    if isinstance(described.get("chat_template"), list):  # several, by names
        named = {entry["name"]: entry["template"] for entry in described["chat_template"]}
        described["chat_template"] = named.get("default", next(iter(named.values()), None))
    template = folder / "chat_template.jinja"
    if template.is_file():
        described["chat_template"] = template.read_text(encoding="utf-8")
    (out / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    files.write_json(out / "tokenizer_config.json", described)
    return [folder / name for name in checkpoint.TOKENIZER_FILES] + [template] * template.is_file()


def adopt(folder: Path, out: Path) -> Tokenizer:
    """Put the tokenizer of the base in `folder` into `out`, for our stages; return it.

    Its chat template goes along if it says what is to be learned, else ours takes its place, which training teaches. A
    stage that takes no step passes on the base's own.
    Raises IntakeError if there is none, or if our markers have other ids in it.
    """
    if not (folder / checkpoint.WEIGHTS).is_file():
        raise IntakeError(
            f"`base` is true, and {folder} holds no model: `minimind import SOURCE {folder}`, or set base to false"
        )
    files.verify(folder)
    try:
        adopted = tokenizer.load(folder)
    except ValueError as error:
        raise IntakeError(f"the base's tokenizer is not of MiniMind's kind, as our chats need it: {error}") from None
    try:
        chat = Chat(folder)
        why = chat.why_foreign or ("" if any(chat.encode(PROBE)[1]) else "it has no {% generation %} blocks")
    except UserError as error:
        why = str(error)
    if why:
        print(f"{folder}: what is trained gets our own chat template instead of the base's: {why}")
        tokenizer.save(adopted, out)
    else:
        tokenizer.save(adopted, out, files.read_json(folder / "tokenizer_config.json")["chat_template"])
    return adopted


def check_equal(theirs: Path, ours: Path) -> None:
    """Raise IntakeError, saying where they part, unless both folders' tokenizers give every text the same ids.

    What a post_processor adds around a text is never asked for here, so it may differ.
    """
    a, b = (files.read_json(folder / "tokenizer.json") for folder in (theirs, ours))
    ids_a, ids_b = _ids(a), _ids(b)
    remedy = (
        "its embedding has a row for each of its own tokens, so it can't speak another tokenizer: import it without "
        "--tokenizer and pack the data with its own, or take another model"
    )
    if ids_a != ids_b:
        differing = {token for token in ids_a.keys() | ids_b.keys() if ids_a.get(token) != ids_b.get(token)}
        first = min(differing, key=lambda token: (ids_a.get(token, ids_b.get(token)), token))
        raise IntakeError(
            f"the tokenizer in {theirs} is not the one in {ours}: {len(ids_a)} against {len(ids_b)} tokens, "
            f"{len(differing)} of them differ, the first is {first!r} with id {ids_a.get(first)} against "
            f"{ids_b.get(first)}. {remedy}"
        )
    for part, one, other in (
        ("merges", _merges(a), _merges(b)),
        *((key, a.get(key), b.get(key)) for key in ("normalizer", "pre_tokenizer")),
    ):
        if one != other:
            raise IntakeError(f"the tokenizer in {theirs} has the tokens of {ours}, but other {part}. {remedy}")


def check_size(folder: Path, vocab_size: int) -> None:
    """Raise IntakeError if the tokenizer in a folder has ids that a model of `vocab_size` rows has no row for."""
    largest = max(_ids(files.read_json(folder / "tokenizer.json")).values())
    if largest >= vocab_size:
        raise IntakeError(
            f"{folder / 'tokenizer.json'} has a token with id {largest}, and the model's embedding has "
            f"{vocab_size} rows: it is another model's tokenizer"
        )


def _ids(described: dict[str, Any]) -> dict[str, int]:
    vocab = described["model"]["vocab"]
    numbers = vocab if isinstance(vocab, dict) else {entry[0]: number for number, entry in enumerate(vocab)}
    return numbers | {entry["content"]: entry["id"] for entry in described["added_tokens"]}


def _merges(described: dict[str, Any]) -> list[str]:
    return [merge if isinstance(merge, str) else " ".join(merge) for merge in described["model"].get("merges", [])]
