"""The top-k divergence against torch's KL, the objective against cross-entropy, and a student that learns."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from minimind.batches import Batch
from minimind.losses import IGNORE
from minimind.model import Decoder, ModelConfig
from minimind.objectives.distillation import Distillation, measure, topk_kl
from minimind.objectives.language import Language

torch.set_num_threads(1)

CONFIG = ModelConfig(
    hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=48,
    max_position_embeddings=32, vocab_size=61,
)  # fmt: skip


def kept(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """What a teacher stores, worked out in float64: its k best tokens, and the mass of the others."""
    probabilities, order = logits.double().softmax(-1).sort(-1, descending=True)
    buckets = torch.cat((probabilities[..., :k], probabilities[..., k:].sum(-1, keepdim=True)), -1)
    return order[..., :k], buckets.log().clamp(min=-6e4).float()


def random_logits(*shape: int, seed: int) -> Tensor:
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("temperature", [1.0, 1.5])
def test_with_every_token_kept_it_is_torch_s_divergence(temperature: float) -> None:
    teacher, student = random_logits(2, 3, 11, seed=0), random_logits(2, 3, 11, seed=1)
    inputs = ((student / temperature).log_softmax(-1), (teacher / temperature).softmax(-1))
    expected = F.kl_div(*inputs, reduction="none").sum(-1)
    torch.testing.assert_close(topk_kl(student, *kept(teacher, 11), temperature), expected, atol=1e-5, rtol=1e-5)


def test_it_is_the_divergence_of_the_merged_distributions_and_rises_to_the_full_one_with_k() -> None:
    teacher, student = random_logits(50, 11, seed=0), random_logits(50, 11, seed=1)
    full = F.kl_div(student.log_softmax(-1), teacher.softmax(-1), reduction="none").sum(-1)
    previous = torch.zeros(50)
    for k in range(1, 11):
        ids, logprobs = kept(teacher, k)
        student_probabilities = student.softmax(-1).gather(-1, ids)
        merged = torch.cat((student_probabilities, 1 - student_probabilities.sum(-1, keepdim=True)), -1)
        expected = F.kl_div(merged.log(), logprobs.exp(), reduction="none").sum(-1)
        bound = topk_kl(student, ids, logprobs)
        torch.testing.assert_close(bound, expected, atol=1e-4, rtol=1e-4)
        assert (bound >= previous - 1e-5).all() and (bound <= full + 1e-5).all()
        previous = bound
    torch.testing.assert_close(previous, full)  # with k = V - 1 nothing is merged


def test_a_student_equal_to_its_teacher_has_neither_loss_nor_gradient() -> None:
    logits = random_logits(4, 11, seed=0).requires_grad_()
    divergence = topk_kl(logits, *kept(logits.detach(), 3), 2.0)
    divergence.sum().backward()
    assert logits.grad is not None
    assert divergence.abs().max() < 1e-5 and logits.grad.abs().max() < 1e-5


def test_the_gradient_is_right_and_finite_where_the_teacher_is_certain() -> None:
    logits = random_logits(3, 7, seed=0).requires_grad_()
    ids, logprobs = kept(random_logits(3, 7, seed=1), 2)
    inputs = logits.detach().double().requires_grad_()

    def merged(x: Tensor) -> Tensor:
        probabilities = x.softmax(-1).gather(-1, ids)
        others = 1 - probabilities.sum(-1, keepdim=True)
        student = torch.cat((probabilities, others), -1).log()
        return (logprobs.exp().double() * (logprobs.double() - student)).sum()

    merged(inputs).backward()
    topk_kl(logits, ids, logprobs).sum().backward()
    assert logits.grad is not None and inputs.grad is not None
    torch.testing.assert_close(logits.grad, inputs.grad.float(), atol=1e-5, rtol=1e-4)

    certain = (200 * F.one_hot(torch.tensor([[2], [0], [5]]), 7).float())[:, 0].requires_grad_()
    ids, logprobs = kept(certain.detach(), 2)
    topk_kl(certain, ids, logprobs.half(), 1.0).sum().backward()
    assert certain.grad is not None and certain.grad.isfinite().all()


def random_batch(teacher: Decoder, k: int, rows: int = 8, length: int = 16, seed: int = 0) -> Batch:
    """Rows of two documents and padding, with very different numbers of targets, and what the teacher stores."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, CONFIG.vocab_size, (rows, length), generator=generator)
    documents = torch.ones(rows, length, dtype=torch.int64)
    documents[:, 6:] = 2
    documents[::2, 12:] = 0
    targets = ids.roll(-1, 1)
    learn = torch.rand(rows, length, generator=generator) < torch.linspace(0.1, 1, rows)[:, None]
    targets[~learn | (documents != documents.roll(-1, 1)) | (documents == 0)] = IGNORE
    targets[:, -1] = IGNORE
    with torch.no_grad():
        teacher_ids, teacher_logprobs = kept(teacher.logits(teacher(ids, documents)[0]), k)
    missing = (targets == IGNORE)[..., None]
    return {
        "ids": ids,
        "targets": targets,
        "documents": documents,
        "teacher_ids": teacher_ids.masked_fill(missing, 0).to(torch.int16),
        "teacher_logprobs": teacher_logprobs.masked_fill(missing, 0).half(),
    }


def gradients(model: Decoder, objective: Distillation | Language, batch: Batch, micro_batch_size: int) -> list[Tensor]:
    """As the training loop accumulates them."""
    model.zero_grad()
    weight = objective.weight(batch)
    for start in range(0, len(batch["ids"]), micro_batch_size):
        part = {name: value[start : start + micro_batch_size] for name, value in batch.items()}
        (objective(model, part)[0] / weight).backward()
    return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]


def test_the_split_into_micro_batches_changes_nothing() -> None:
    student, teacher = Decoder(CONFIG).initialise(0), Decoder(CONFIG).initialise(1)
    batch = random_batch(teacher, 4)
    objective = Distillation(0.7, 1.5)
    whole = gradients(student, objective, batch, 8)
    for size in (2, 1):
        for ours, theirs in zip(gradients(student, objective, batch, size), whole, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("use_moe", [False, True])
def test_without_the_teacher_it_is_the_language_objective(use_moe: bool) -> None:
    config = ModelConfig(**{**CONFIG.__dict__, "use_moe": use_moe})
    student = Decoder(config).initialise(0)
    batch = random_batch(Decoder(CONFIG).initialise(1), 4)
    control = {name: batch[name] for name in ("ids", "targets", "documents")}
    assert Distillation(0.0).weight(batch) == Language().weight(batch) > 0
    loss, expected = Distillation(0.0)(student, control)[0], Language()(student, control)[0]
    torch.testing.assert_close(loss, expected)
    for ours, theirs in zip(
        gradients(student, Distillation(0.0), control, 8), gradients(student, Language(), control, 8), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_the_parts_are_mixed_by_alpha_and_the_squared_temperature() -> None:
    student, teacher = Decoder(CONFIG).initialise(0), Decoder(CONFIG).initialise(1)
    batch = random_batch(teacher, CONFIG.vocab_size)
    alpha, temperature = 0.3, 2.0
    with torch.no_grad():
        loss, metrics = Distillation(alpha, temperature)(student, batch)
        theirs, ours = (m.logits(m(batch["ids"], batch["documents"])[0]) for m in (teacher, student))
        learnt = batch["targets"] != IGNORE
        inputs = (ours[learnt] / temperature).log_softmax(-1), (theirs[learnt] / temperature).softmax(-1)
        divergence = F.kl_div(*inputs, reduction="sum")
        cross_entropy = F.cross_entropy(ours[learnt], batch["targets"][learnt], reduction="sum")
    torch.testing.assert_close(metrics["divergence"], divergence, atol=1e-2, rtol=1e-3)  # stored in half precision
    torch.testing.assert_close(metrics["cross_entropy"], cross_entropy)
    expected = (1 - alpha) * cross_entropy + alpha * temperature**2 * divergence
    torch.testing.assert_close(loss, expected, atol=1e-2, rtol=1e-3)


def test_distillation_brings_a_student_to_its_teacher_and_a_control_does_not() -> None:
    teacher = Decoder(CONFIG).initialise(1)
    with torch.no_grad():  # away from the uniform distribution
        teacher.model.embed_tokens.weight.mul_(30)
    batch = random_batch(teacher, 8, rows=32)
    held_out = random_batch(teacher, 8, rows=32, seed=1)
    divergences = {}
    for alpha in (0.0, 0.9):
        student = Decoder(CONFIG).initialise(0)
        objective = Distillation(alpha)
        optimizer = torch.optim.AdamW(student.parameters(), lr=1e-2)
        before = measure(student, [held_out], target_bytes=1000)
        for _ in range(60):
            optimizer.zero_grad()
            (objective(student, batch)[0] / objective.weight(batch)).backward()
            optimizer.step()
        after = measure(student, [held_out], target_bytes=1000)
        divergences[alpha] = after["divergence"] / before["divergence"]
    assert divergences[0.9] < 0.9
    assert divergences[0.0] > divergences[0.9]


def test_measure_is_the_mean_over_all_targets_of_all_batches() -> None:
    student, teacher = Decoder(CONFIG).initialise(0), Decoder(CONFIG).initialise(1)
    batch = random_batch(teacher, 4)
    measured = measure(student, [{n: v[:3] for n, v in batch.items()}, {n: v[3:] for n, v in batch.items()}], 700)
    with torch.no_grad():
        metrics = Distillation(1.0)(student, batch)[1]
    assert measured["divergence"] == pytest.approx(metrics["divergence"].item() / Language().weight(batch), rel=1e-4)
    assert measured["bits_per_byte"] == pytest.approx(metrics["cross_entropy"].item() / math.log(2) / 700, rel=1e-4)


def test_it_compiles_without_breaks_and_computes_the_same() -> None:
    student, teacher = Decoder(CONFIG).initialise(0), Decoder(CONFIG).initialise(1)
    batch = random_batch(teacher, 4)
    objective = Distillation(0.5, 1.5)
    compiled = torch.compile(lambda b: objective(student, b), fullgraph=True, dynamic=False, backend="eager")
    torch.testing.assert_close(compiled(batch)[0], objective(student, batch)[0])


def test_wrong_values_are_named() -> None:
    with pytest.raises(ValueError, match="distill.alpha 2"):
        Distillation(2)
    with pytest.raises(ValueError, match="distill.temperature 0"):
        Distillation(0.5, 0)
