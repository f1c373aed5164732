"""The loads of experts among the columns of a training curve: load_<layer>_<expert>, 1 where all are visited alike."""

from collections.abc import Iterable, Mapping

DEAD = 0.01
"""An expert with less than this part of an even share of the visits counts as dead."""


def loads(columns: Iterable[str]) -> list[str]:
    """Those of the columns that are loads in training."""
    return [column for column in columns if column.startswith("load_")]


def table(line: Mapping[str, float]) -> list[list[float]]:
    """The loads of a line of the curve, layer by layer, expert by expert; nothing for a dense model."""
    layers: dict[int, dict[int, float]] = {}
    for column in loads(line):
        layer, expert = map(int, column.removeprefix("load_").split("_"))
        layers.setdefault(layer, {})[expert] = line[column]
    return [[layers[layer][expert] for expert in sorted(layers[layer])] for layer in sorted(layers)]


def dead(line: Mapping[str, float]) -> list[str]:
    """The dead experts of a line of the curve, in words."""
    return [
        f"expert {expert} of layer {layer}"
        for layer, row in enumerate(table(line))
        for expert, load in enumerate(row)
        if load < DEAD
    ]
