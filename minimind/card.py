"""A model's card: README.md with the fields that the Hugging Face hub reads, and how to use what lies beside it."""

from collections.abc import Mapping
from typing import Any

LICENSE = "apache-2.0"  # of what is trained here, as of this repository
LIBRARIES = {"hf": "transformers", "onnx": "transformers.js", "gguf": "llama.cpp", "ollama": "llama.cpp"}

USES = {
    "hf": 'AutoModelForCausalLM.from_pretrained("FOLDER"), or minimind.Model("FOLDER")',
    "gguf": "llama-cli --model NAME.gguf --jinja",
    "ollama": "ollama create my-model --file Modelfile",
    "onnx": "onnxruntime, or transformers.js; the graph is onnx/model.onnx",
}


def base(lineage: Mapping[str, Any]) -> str | None:
    """Of whom a checkpoint is descended: what the first of its ancestors was imported from, None if it was trained.

    Names of the hub come without `hf://`.
    """
    found = lineage.get("source") if lineage.get("stage") == "import" else lineage.get("base")
    return None if found is None else str(found).removeprefix("hf://")


def license(lineage: Mapping[str, Any]) -> str | None:
    """The licence of the weights; None where another's model was the beginning, whose licence counts."""
    return LICENSE if base(lineage) is None else None


def write(name: str, num_parameters: int, lineage: Mapping[str, Any], form: str = "hf") -> str:
    """The text of README.md, headed `name`, beside one of the forms of `USES`; equal input gives equal text."""
    ancestor, allowed = base(lineage), license(lineage)
    fields = [
        *([f"license: {allowed}"] if allowed else []),
        f"library_name: {LIBRARIES[form]}",
        "pipeline_tag: text-generation",
        *([f"base_model: {ancestor}"] if ancestor and ancestor.count("/") == 1 else []),
        "tags:",
        "- minimind",
    ]
    stage = lineage.get("part") or lineage.get("stage")
    lines = [
        "---", *fields, "---", "", f"# {name}", "",
        f"{num_parameters:,} parameters, written by the MiniMind pipeline{f' (stage {stage})' if stage else ''}.",
        *([f"It began as {ancestor}, whose licence counts."] if ancestor else []),
        "", f"    {USES[form]}", "",
    ]  # fmt: skip
    if form == "hf":
        lines += ["`manifest.json` holds the digest of each file and where they come from.", ""]
    return "\n".join(lines)
