"""Log-probabilities of packed rows against torch.distributions and against sums over unpacked sequences."""

import torch
from torch.distributions import Categorical

from minimind.losses import IGNORE, document_sums, sequence_logprobs, token_logprobs


def test_token_logprobs_are_those_of_the_distribution() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(3, 5, 11, generator=generator)
    targets = torch.randint(0, 11, (3, 5), generator=generator)
    torch.testing.assert_close(token_logprobs(logits, targets), Categorical(logits=logits).log_prob(targets))


def test_ignored_targets_have_neither_value_nor_gradient() -> None:
    logits = torch.randn(2, 4, 7, generator=torch.Generator().manual_seed(0)).requires_grad_()
    targets = torch.tensor([[1, IGNORE, 3, IGNORE], [IGNORE] * 4])
    logprobs = token_logprobs(logits, targets)
    logprobs.sum().backward()
    assert logits.grad is not None
    ignored = targets == IGNORE
    assert (logprobs[ignored] == 0).all() and (logits.grad[ignored] == 0).all()
    assert (logprobs[~ignored] < 0).all() and (logits.grad[~ignored] != 0).all()


def test_log_probabilities_are_computed_in_fp32_whatever_the_logits_are() -> None:
    logits = torch.tensor([[[20.0, 0.0]]], dtype=torch.bfloat16)
    logprobs = token_logprobs(logits, torch.tensor([[1]]))
    assert logprobs.dtype == torch.float32
    torch.testing.assert_close(logprobs, torch.tensor([[-20.0]]))


def test_document_sums_keep_documents_and_rows_apart_and_leave_out_padding() -> None:
    values = torch.tensor([[1.0, 2.0, 4.0, 8.0, 16.0], [32.0, 64.0, 128.0, 256.0, 512.0]])
    documents = torch.tensor([[1, 1, 2, 3, 0], [1, 2, 2, 2, 2]])
    expected = torch.tensor([[3.0, 4.0, 8.0, 0.0], [32.0, 960.0, 0.0, 0.0]])
    assert torch.equal(document_sums(values, documents, 4), expected)


def test_sequence_logprobs_of_packed_documents_are_those_of_each_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    lengths, V = [3, 1, 5], 13
    pieces = [torch.randn(length, V, generator=generator) for length in lengths]
    targets = [torch.randint(0, V, (length,), generator=generator) for length in lengths]
    targets[2][:2] = IGNORE
    padding = 2
    packed_logits = torch.cat([*pieces, torch.randn(padding, V, generator=generator)])[None]
    packed_targets = torch.cat([*targets, torch.full((padding,), IGNORE)])[None]
    documents = torch.tensor([[1] * 3 + [2] + [3] * 5 + [0] * padding])
    expected = torch.tensor(
        [
            sum(Categorical(logits=row).log_prob(t) for row, t in zip(piece, target, strict=True) if t != IGNORE)
            for piece, target in zip(pieces, targets, strict=True)
        ]
    )
    torch.testing.assert_close(sequence_logprobs(packed_logits, packed_targets, documents, 3)[0], expected)
