"""Decoders with random weights."""

import torch

from minimind.model import Decoder, ModelConfig


def random_model(
    config: ModelConfig, dtype: torch.dtype = torch.float32, *, seed: int = 1, scale: float = 0.2
) -> Decoder:
    """All weights random, norms and biases of the choice too, and so large that all of the model shows in the logits
    and, with a `scale` of 0.3, that continuations vary.
    """
    model = Decoder(config, dtype)
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data = 1 + 0.3 * noise if parameter.ndim == 1 else scale * noise
    for name, buffer in model.named_buffers():
        if name.endswith("bias"):
            buffer.copy_(torch.randn(buffer.shape, generator=generator))
    return model
