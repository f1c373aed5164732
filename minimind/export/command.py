"""The subcommand `minimind export`: one checkpoint into another format, and perhaps onto the hub."""

import argparse
from pathlib import Path

from minimind import checkpoint, files
from minimind.export import contents as reading
from minimind.export import gguf, hub, huggingface, ollama, onnx
from minimind.export.contents import Contents, ExportError
from minimind.export.perplexity import documents, perplexity


def main(options: argparse.Namespace) -> None:
    """Export, say what was written and, of a GGUF file, what it costs in perplexity. Raises UserError."""
    contents = reading.read(options.checkpoint)
    kind = options.to
    if options.quantize != "f32" and kind not in ("gguf", "ollama"):
        raise ExportError(f"--quantize is for gguf and ollama, not for {kind}: of hf, --dtype says the numbers' format")
    if options.dtype != "f32" and kind != "hf":
        raise ExportError(f"--dtype is for hf, not for {kind}: of gguf and ollama, --quantize says the numbers' format")
    out = options.out or Path("exports") / contents.name / kind
    if options.out and out.exists():  # a folder is replaced as a whole, and pushed as a whole
        raise ExportError(f"--out {out} exists: name another place, or remove it first")
    if kind == "gguf":
        with files.folder(out) as folder:
            gguf.write(contents, folder / f"{contents.name}-{options.quantize}.gguf", options.quantize)
    elif kind == "ollama":
        ollama.write(contents, out, options.quantize)
    elif kind == "onnx":
        onnx.write(contents, out)
    else:
        huggingface.write(contents, out, options.dtype)
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        print(f"{path}: {path.stat().st_size:,} bytes")
    if kind in ("gguf", "ollama"):
        report(contents, out / f"{contents.name}-{options.quantize}.gguf", options.text, options.tokens)
    if options.push_to_hub:
        print(f"pushed: {hub.push(out, options.push_to_hub, f'{contents.name} as {kind}')}")


def report(contents: Contents, path: Path, text: Path, max_tokens: int) -> None:
    """Print the perplexity of the checkpoint and of the GGUF file made of it, on the same tokens.

    The file's weights are read back and dequantised; our own model computes with them, in fp32.
    """
    if not text.exists():
        print(f"perplexity: not measured, there is no {text}; --text names a packed data set or a file of text")
        return
    pieces = documents(text, contents, max_tokens)
    model = checkpoint.load(contents.folder)
    before = perplexity(model, pieces)
    model.load_state_dict(gguf.read_weights(path, contents), strict=True)
    after = perplexity(model, pieces)
    num_tokens = sum(map(len, pieces)) - len(pieces)
    print(
        f"perplexity on {num_tokens:,} tokens of {text}: {before:.4f} of the checkpoint, {after:.4f} of {path.name} "
        f"({100 * (after / before - 1):+.3f}%)"
    )
