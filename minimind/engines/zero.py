"""DeepSpeed's ZeRO behind the face of an engine."""


class Zero:
    """To come."""
