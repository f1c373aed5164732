"""Train, align, distil and score small language models; `minimind.Model` uses one from Python."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minimind.inference.language_model import Model as Model


def __getattr__(name: str) -> Any:
    """`Model`, imported when it is asked for: a stage that imports a module beside it gets none of it."""
    if name == "Model":
        from minimind.inference.language_model import Model

        return Model
    raise AttributeError(f"module 'minimind' has no attribute {name!r}")
