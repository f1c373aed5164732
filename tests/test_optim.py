"""Muon against torch's, and who is optimised by what."""

import torch
from torch import nn

from minimind import optim
from minimind.model import Decoder, ModelConfig

CONFIG = ModelConfig(32, 2, 4, 2, 48, vocab_size=50)


def test_muon_takes_the_steps_of_torch_muon() -> None:
    """torch's scales by sqrt(max(1, rows / columns)) too, when told so, and iterates in bf16 as well."""
    torch.manual_seed(0)
    ours = [nn.Parameter(torch.randn(24, 16)), nn.Parameter(torch.randn(16, 40)), nn.Parameter(torch.randn(24, 16))]
    theirs = [nn.Parameter(p.detach().clone()) for p in ours]
    first = optim.Muon(ours, lr=0.02, momentum=0.95, weight_decay=0.1)
    second = torch.optim.Muon(theirs, lr=0.02, momentum=0.95, weight_decay=0.1, adjust_lr_fn="original")
    for _ in range(5):
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad = torch.randn_like(mine)
            other.grad = mine.grad.clone()
        first.step()
        second.step()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, atol=2e-3, rtol=2e-2)


def test_orthogonalise_brings_singular_values_near_one() -> None:
    torch.manual_seed(0)
    for shape in [(3, 16, 64), (3, 64, 16)]:
        values = torch.linalg.svdvals(optim.orthogonalise(torch.randn(shape)).float())
        assert values.min() > 0.6
        assert values.max() < 1.3


def test_every_parameter_has_one_optimizer_and_only_hidden_matrices_decay() -> None:
    model = Decoder(CONFIG).initialise(0)
    names = {parameter: name for name, parameter in model.named_parameters()}
    for kind in ("muon", "adamw"):
        optimizers = optim.build(model, kind, 1e-3, 1e-2, (0.9, 0.95), 0.95, 0.1)  # type: ignore[arg-type]
        groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        owned = [names[parameter] for group in groups for parameter in group["params"]]
        assert sorted(owned) == sorted(names.values())
        decayed = {names[p] for group in groups if group["weight_decay"] > 0 for p in group["params"]}
        assert decayed == {name for name in names.values() if "proj" in name}


def test_muon_fits_faster_than_standing_still() -> None:
    torch.manual_seed(0)
    target, weight = torch.randn(16, 16), nn.Parameter(torch.zeros(16, 16))
    optimizer = optim.Muon([weight], lr=0.1, momentum=0.9, weight_decay=0.0)
    losses = []
    for _ in range(60):
        loss = (weight - target).square().mean()
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < 0.1 * losses[0]
