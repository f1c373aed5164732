"""A checkpoint as a folder for transformers, in the dtype of one's choice.

Every checkpoint is such a folder already, in fp32; this makes it smaller. It stays a checkpoint: its manifest says
what it was made of, and everything here that reads a checkpoint reads it.
"""

from pathlib import Path

from safetensors.torch import save_file

from minimind import checkpoint, files
from minimind.export import contents as reading
from minimind.export.contents import Contents


def write(contents: Contents, folder: Path, dtype: str) -> None:
    """Write the checkpoint to `folder`, atomically, its weights rounded to `dtype`: f32, f16 or bf16."""
    kind = reading.dtype(dtype)
    name = str(kind).removeprefix("torch.")
    manifest = files.read_manifest(contents.folder)
    lineage = {"export": "hf", "dtype": name, "inputs": {"checkpoint": checkpoint.digest(contents.folder)}}
    with files.folder(folder) as partial:
        save_file({key: value.to(kind) for key, value in contents.tensors.items()}, partial / checkpoint.WEIGHTS,
                  {"format": "pt"})  # fmt: skip
        files.write_json(partial / "config.json", contents.config | {"torch_dtype": name, "dtype": name})
        for file in ("generation_config.json", *checkpoint.TOKENIZER_FILES):
            (partial / file).write_bytes((contents.folder / file).read_bytes())
        files.write_manifest(partial, {"model": manifest["model"], "lineage": lineage})
