"""Operators that give equal bits each time."""

import os

import torch


def repeat(device: torch.device, deterministic: bool) -> None:
    """Let a GPU take operators only that give equal bits each time, or any. A CPU's all do.

    torch then refuses an operator that has no such form, by name. (Where it may only warn, flash attention's backward
    pass keeps adding up with atomics.)
    """
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(deterministic)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
