"""The subcommand `minimind export`: one checkpoint into another format, and perhaps onto the hub."""

import argparse
from pathlib import Path

from minimind import checkpoint, files
from minimind.export import contents as reading
from minimind.export import gguf, hub, huggingface, ollama, onnx
from minimind.export.contents import Contents, ExportError
from minimind.export.perplexity import documents, perplexity

TEXT = Path("data/packed/pretrain")  # the command line's default for --text


def main(options: argparse.Namespace) -> None:
    """Export, say what was written and, of a GGUF file, what it costs in perplexity. Raises UserError."""
    contents = reading.read(options.checkpoint)
    kind = options.to
    if options.quantize != "f32" and kind not in ("gguf", "ollama"):
        raise ExportError(f"--quantize is for gguf and ollama, not for {kind}: of hf, --dtype says the numbers' format")
    if options.dtype != "f32" and kind != "hf":
        raise ExportError(f"--dtype is for hf, not for {kind}: of gguf and ollama, --quantize says the numbers' format")
    form = {"onnx": "onnx", "hf": f"hf-{options.dtype}"}.get(kind, f"{kind}-{options.quantize}")
    out = options.out or place(options.checkpoint) / form
    if options.out and out.exists():  # a folder is replaced as a whole, and pushed as a whole
        raise ExportError(f"--out {out} exists: name another place, or remove it first")
    pieces = judged(contents, options.text, options.tokens) if kind in ("gguf", "ollama") else []
    if kind == "gguf":
        with files.folder(out) as folder:
            gguf.write(contents, folder / f"{contents.name}-{options.quantize}.gguf", options.quantize)
            files.write_text(folder / "README.md", contents.card("gguf"))
    elif kind == "ollama":
        ollama.write(contents, out, options.quantize)
    elif kind == "onnx":
        onnx.write(contents, out)
    else:
        huggingface.write(contents, out, options.dtype)
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        print(f"{path}: {path.stat().st_size:,} bytes")
    if pieces:
        report(contents, out / f"{contents.name}-{options.quantize}.gguf", options.text, pieces)
    if options.push_to_hub:
        print(f"pushed: {hub.push(out, options.push_to_hub, f'{contents.name} as {kind}')}")


def place(folder: Path) -> Path:
    """Where a checkpoint is exported to: below exports/, as it lies below models/ or the current folder.

    Of one that lies elsewhere the name alone counts.
    """
    path = folder.resolve()
    for root in (Path("models").resolve(), Path.cwd()):
        if root in path.parents:
            return Path("exports") / path.relative_to(root)
    return Path("exports") / path.name


def judged(contents: Contents, text: Path, max_tokens: int) -> list[list[int]]:
    """The token ids to measure perplexity on, in pieces; none, after saying why, where there is no `text`.

    So too where it is the default one and does not fit the checkpoint; another raises ExportError.
    """
    try:
        if text.exists():
            return documents(text, contents, max_tokens)
        why: object = f"there is no {text}"
    except (ValueError, OSError) as error:
        if text != TEXT:
            raise
        why = error
    print(f"perplexity not measured: {why} (--text names a packed data set, or a file of text)")
    return []


def report(contents: Contents, path: Path, text: Path, pieces: list[list[int]]) -> None:
    """Print the perplexity of the checkpoint and of the GGUF file made of it, on the same tokens, those of `text`.

    The file's weights are read back and dequantised; our own model computes with them, in fp32.
    """
    model = checkpoint.load(contents.folder)
    before = perplexity(model, pieces)
    model.load_state_dict(gguf.read_weights(path, contents), strict=True)
    after = perplexity(model, pieces)
    num_tokens = sum(map(len, pieces)) - len(pieces)
    print(
        f"perplexity on {num_tokens:,} tokens of {text}: {before:.4f} of the checkpoint, {after:.4f} of {path.name} "
        f"({100 * (after / before - 1):+.3f}%)"
    )
