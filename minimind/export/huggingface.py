"""A checkpoint as a folder for transformers, in the dtype of one's choice.

Every checkpoint is such a folder already, in fp32; this makes it smaller. It stays a checkpoint: its manifest says
what it was made of, and everything here that reads a checkpoint reads it.
"""

from pathlib import Path

import torch
from safetensors.torch import save_file

from minimind import checkpoint, files
from minimind.export.contents import Contents

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def write(contents: Contents, folder: Path, dtype: str) -> None:
    """Write the checkpoint to `folder`, atomically, its weights rounded to `dtype`: f32, f16 or bf16."""
    kind = DTYPES[dtype]
    name = str(kind).removeprefix("torch.")
    manifest = files.read_manifest(contents.folder)
    lineage = {"stage": "export", "dtype": name, "inputs": {"checkpoint": checkpoint.digest(contents.folder)}}
    with files.folder(folder) as partial:
        save_file({key: value.to(kind) for key, value in contents.tensors.items()}, partial / checkpoint.WEIGHTS,
                  {"format": "pt"})  # fmt: skip
        files.write_json(partial / "config.json", contents.config | {"torch_dtype": name, "dtype": name})
        for file in manifest["files"]:  # the tokenizer's, and the code of a class that transformers has not
            if "/" not in file and not (partial / file).exists():  # an adapter/ belongs to the model before it
                (partial / file).write_bytes((contents.folder / file).read_bytes())
        files.write_manifest(partial, {"model": manifest["model"], "lineage": lineage})
        files.write_text(partial / "README.md", contents.card("hf"))
