"""From weights to epochs."""

import pytest

from minimind.errors import UserError
from minimind.mixture import Mixture, Portion, epochs


def test_sources_without_a_portion_are_read_once():
    assert epochs({"a": Portion(epochs=0.5)}, {"a": 10, "b": 20}) == {"a": 0.5, "b": 1.0}


def test_weights_hold_exactly_and_the_scarcest_source_sets_the_size():
    tokens = {"web": 9000, "books": 1000, "code": 500}
    portions = {
        "web": Portion(weight=0.5),
        "books": Portion(weight=0.3, max_epochs=4.0),
        "code": Portion(weight=0.2, max_epochs=2.0),
    }
    found = epochs(portions, tokens)
    read = {source: found[source] * tokens[source] for source in tokens}
    assert {source: amount / sum(read.values()) for source, amount in read.items()} == pytest.approx(
        {"web": 0.5, "books": 0.3, "code": 0.2}
    )
    assert found["code"] == pytest.approx(2.0)  # 1000 of 5000 tokens
    assert all(found[source] <= portion.max_epochs + 1e-9 for source, portion in portions.items())


@pytest.mark.parametrize(
    ("portions", "says"),
    [
        ({"c": Portion(epochs=1.0)}, r"no source `c` \(known: a, b\)"),
        ({"a": Portion(weight=1.0)}, "without are: b"),
        ({"a": Portion(weight=0.7), "b": Portion(weight=0.7)}, "add up to 1.4"),
        ({"a": Portion(weight=0.7), "b": Portion(epochs=1.0)}, "without are: b"),
    ],
)
def test_portions_that_do_not_fit_the_sources_are_refused(portions, says):
    with pytest.raises(UserError, match=says):
        Mixture(pretrain=portions).of("pretrain", ["a", "b"])


@pytest.mark.parametrize("values", [{}, {"epochs": 1.0, "weight": 0.5}, {"epochs": 0.0}, {"weight": -1.0}])
def test_a_portion_is_epochs_or_a_weight(values):
    with pytest.raises(ValueError, match=r"epochs|weight"):
        Portion(**values)


def test_a_weighted_source_without_tokens_is_named() -> None:
    with pytest.raises(UserError, match="b has a weight and nothing to train on"):
        epochs({"a": Portion(weight=0.7), "b": Portion(weight=0.3)}, {"a": 100, "b": 0})
