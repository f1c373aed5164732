"""DPO on packed pairs against trl's trainer on padded ones, and a model that learns to prefer."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from minimind.batches import Batch
from minimind.losses import IGNORE, sequence_logprobs
from minimind.model import Decoder, ModelConfig
from minimind.objectives.preference import Preference, dpo_loss, measure

torch.set_num_threads(1)

CONFIG = ModelConfig(
    hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=48,
    max_position_embeddings=64, vocab_size=41,
)  # fmt: skip

Pair = tuple[list[int], list[int], list[int]]  # prompt, chosen and rejected answer


def random_pairs(count: int, seed: int) -> list[Pair]:
    generator = torch.Generator().manual_seed(seed)

    def tokens(low: int, high: int) -> list[int]:
        length = int(torch.randint(low, high, (), generator=generator))
        return torch.randint(3, CONFIG.vocab_size, (length,), generator=generator).tolist()

    return [(tokens(2, 5), tokens(1, 9), tokens(1, 9)) for _ in range(count)]


def pack(rows: Sequence[Sequence[Pair]], reference: Decoder | None = None, length: int = 64) -> Batch:
    """Each row holds its pairs, prompt and chosen then prompt and rejected, learnt on the answers only."""
    max_documents = 2 * max(len(row) for row in rows)
    ids = torch.zeros(len(rows), length, dtype=torch.int64)
    targets, documents = torch.full_like(ids, IGNORE), torch.zeros_like(ids)
    for r, row in enumerate(rows):
        start = 0
        pieces = [(prompt, answer) for prompt, *answers in row for answer in answers]
        for number, (prompt, answer) in enumerate(pieces, 1):
            end = start + len(prompt) + len(answer)
            ids[r, start:end] = torch.tensor(prompt + answer)
            documents[r, start:end] = number
            targets[r, end - len(answer) - 1 : end - 1] = torch.tensor(answer)
            start = end
    batch = {"ids": ids, "targets": targets, "documents": documents}
    if reference is not None:
        with torch.no_grad():
            logits = reference.logits(reference(ids, documents)[0])
        batch["reference"] = sequence_logprobs(logits, targets, documents, max_documents)
    return batch


@pytest.fixture(scope="module")
def models() -> tuple[Decoder, Decoder]:
    """A policy and a reference with clearly different opinions."""
    pair = Decoder(CONFIG).initialise(0), Decoder(CONFIG).initialise(1)
    with torch.no_grad():
        for model in pair:
            model.model.embed_tokens.weight.mul_(10)
    return pair


def transformers_model(model: Decoder) -> Any:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    c = model.config
    theirs = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=c.vocab_size, hidden_size=c.hidden_size, intermediate_size=c.intermediate_size,
            num_hidden_layers=c.num_hidden_layers, num_attention_heads=c.num_attention_heads,
            num_key_value_heads=c.num_key_value_heads, head_dim=c.head_width, rms_norm_eps=c.rms_norm_eps,
            rope_parameters={"rope_type": "default", "rope_theta": c.rope_theta}, tie_word_embeddings=True,
            max_position_embeddings=c.max_position_embeddings, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        )
    )  # fmt: skip
    assert theirs.load_state_dict(model.state_dict(), strict=False).missing_keys == ["lm_head.weight"]
    theirs.tie_weights()
    return theirs


def trl_trainer(policy: Decoder, reference: Decoder, folder: Path, **loss: Any) -> Any:
    """A real DPOTrainer around the same weights; its own data set is a formality."""
    from datasets import Dataset
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer

    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(CONFIG.vocab_size)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="w0", bos_token="w1", eos_token="w2")
    config = DPOConfig(
        output_dir=str(folder), report_to="none", use_cpu=True, bf16=False, gradient_checkpointing=False,
        disable_tqdm=True, per_device_train_batch_size=1, **loss,
    )  # fmt: skip
    data = Dataset.from_list([{"prompt": "w5 w6", "chosen": " w7", "rejected": " w8"}])
    return DPOTrainer(
        transformers_model(policy), transformers_model(reference), args=config, train_dataset=data,
        processing_class=tokenizer,
    )  # fmt: skip


CASES: dict[str, tuple[Preference, dict[str, Any]]] = {
    "dpo": (Preference(0.3), {"loss_type": ["sigmoid"]}),
    "with likelihood": (Preference(0.3, nll=0.5), {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.5]}),
    "normalised": (Preference(0.3, length_normalised=True), {"loss_type": ["sigmoid_norm"]}),
}


@pytest.mark.parametrize("case", CASES)
def test_loss_metrics_and_gradients_are_those_of_trl(
    case: str, models: tuple[Decoder, Decoder], tmp_path: Path
) -> None:
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    policy, reference = models
    objective, arguments = CASES[case]
    trainer = trl_trainer(policy, reference, tmp_path, beta=0.3, **arguments)
    pairs = random_pairs(6, seed=2)
    expected = torch.zeros(())
    # One pair at a time: trl averages the likelihood term over a batch's tokens, we over its pairs.
    for prompt, chosen, rejected in pairs:
        example = {"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected}
        loss = trainer.compute_loss(trainer.model, DataCollatorForPreference(pad_token_id=0)([example]))
        loss.backward()
        expected = expected + loss.detach()
    batch = pack([pairs[:2], pairs[2:5], pairs[5:]], reference)
    policy.zero_grad()
    loss, metrics = objective(policy, batch)
    loss.backward()
    torch.testing.assert_close(loss.detach(), expected, atol=1e-4, rtol=1e-4)
    assert objective.weight(batch) == len(pairs)
    theirs = dict(trainer.model.named_parameters())
    for name, parameter in policy.named_parameters():
        torch.testing.assert_close(parameter.grad, theirs[name].grad, atol=1e-4, rtol=1e-3, msg=name)
    if not objective.length_normalised:
        logged = {name: sum(values) for name, values in trainer._metrics["train"].items() if "rewards" in name}
        for ours, name in {
            "accuracy": "rewards/accuracies", "margin": "rewards/margins", "chosen_reward": "rewards/chosen",
            "rejected_reward": "rewards/rejected",
        }.items():  # fmt: skip
            assert metrics[ours].item() == pytest.approx(logged[name], abs=1e-3)


def test_an_unchanged_model_has_no_margin_and_the_loss_of_a_coin() -> None:
    model = Decoder(CONFIG).initialise(0)
    batch = pack([random_pairs(3, seed=0)], model)
    loss, metrics = Preference(0.1)(model, batch)
    assert metrics["margin"].item() == 0 and metrics["accuracy"].item() == 0
    assert loss.item() == pytest.approx(3 * 0.693147, rel=1e-5)


def test_the_loss_rewards_the_gap_only() -> None:
    policy = torch.tensor([[-5.0, -9.0], [-9.0, -5.0]])
    reference = torch.tensor([[-6.0, -6.0], [-6.0, -6.0]])
    loss, rewards = dpo_loss(policy, reference, beta=0.5)
    torch.testing.assert_close(rewards, torch.tensor([[0.5, -1.5], [-1.5, 0.5]]))
    torch.testing.assert_close(loss, torch.tensor([2.0, -2.0]).neg().exp().log1p())
    torch.testing.assert_close(dpo_loss(policy - 3, reference, beta=0.5)[0], loss)


def gradients(model: Decoder, objective: Preference, batch: Batch, micro_batch_size: int) -> list[Tensor]:
    """As the training loop accumulates them."""
    model.zero_grad()
    weight = objective.weight(batch)
    for start in range(0, len(batch["ids"]), micro_batch_size):
        part = {name: value[start : start + micro_batch_size] for name, value in batch.items()}
        (objective(model, part)[0] / weight).backward()
    return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("use_moe", [False, True])
def test_the_split_into_micro_batches_changes_nothing(use_moe: bool, models: tuple[Decoder, Decoder]) -> None:
    model = Decoder(replace(CONFIG, use_moe=use_moe)).initialise(3)
    pairs = random_pairs(13, seed=4)
    rows = [pairs[:3], pairs[3:4], pairs[4:5], pairs[5:7], pairs[7:10], pairs[10:11], pairs[11:12], pairs[12:]]
    batch = pack(rows, models[1])
    objective = Preference(0.2, nll=0.3)
    whole = gradients(model, objective, batch, 8)
    for size in (2, 1):
        for ours, theirs in zip(gradients(model, objective, batch, size), whole, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)


def test_how_pairs_are_packed_changes_nothing(models: tuple[Decoder, Decoder]) -> None:
    policy, reference = models
    pairs = random_pairs(4, seed=5)
    with torch.no_grad():
        losses = [
            Preference(0.2, nll=0.3)(policy, pack(rows, reference))[0]
            for rows in ([pairs[:3], pairs[3:]], [[pair] for pair in pairs], [pairs[2:], pairs[:2]])
        ]
    for loss in losses[1:]:
        torch.testing.assert_close(loss, losses[0], atol=1e-4, rtol=1e-5)


def test_training_raises_accuracy_and_margin_on_pairs_it_has_not_seen() -> None:
    def pairs(count: int, seed: int) -> list[Pair]:
        """Random pairs, the chosen answer in even tokens and the rejected one in odd ones."""
        return [
            (prompt, [token // 2 * 2 for token in chosen], [token // 2 * 2 - 1 for token in rejected])
            for prompt, chosen, rejected in random_pairs(count, seed)
        ]

    model = Decoder(CONFIG).initialise(0)
    batch = pack([pairs(3, seed) for seed in range(16)], model)
    held_out = pack([pairs(3, seed) for seed in range(100, 116)], model)
    objective = Preference(0.5, nll=0.1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    before = measure(model, objective, [held_out])
    for _ in range(30):
        optimizer.zero_grad()
        (objective(model, batch)[0] / objective.weight(batch)).backward()
        optimizer.step()
    after = measure(model, objective, [held_out])
    assert before["margin"] == 0
    assert after["accuracy"] > 0.9
    assert after["margin"] > 1
    assert after["loss"] < before["loss"]


def test_measure_is_the_mean_over_all_pairs_of_all_batches(models: tuple[Decoder, Decoder]) -> None:
    policy, reference = models
    pairs = random_pairs(5, seed=6)
    batch = pack([pairs[:3], pairs[3:4], pairs[4:]], reference)
    objective = Preference(0.2, nll=0.3)
    measured = measure(policy, objective, [{n: v[:2] for n, v in batch.items()}, {n: v[2:] for n, v in batch.items()}])
    with torch.no_grad():
        loss, metrics = objective(policy, batch)
    assert measured["loss"] == pytest.approx(loss.item() / 5, rel=1e-5)
    assert measured["nll"] == pytest.approx(metrics["nll"].item() / 5, rel=1e-5)


def test_it_compiles_without_breaks_and_computes_the_same(models: tuple[Decoder, Decoder]) -> None:
    policy, reference = models
    batch = pack([random_pairs(2, seed=7)], reference)
    objective = Preference(0.2, nll=0.3)
    compiled = torch.compile(lambda b: objective(policy, b), fullgraph=True, dynamic=False, backend="eager")
    torch.testing.assert_close(compiled(batch)[0], objective(policy, batch)[0])


def test_wrong_values_are_named() -> None:
    with pytest.raises(ValueError, match="dpo.beta 0"):
        Preference(0)
    with pytest.raises(ValueError, match="dpo.nll -1"):
        Preference(0.1, nll=-1)
