import pytest

from minimind.random import Random


def test_bits_are_splitmix64() -> None:
    random = Random("")
    random._state = 1234567
    # Published outputs for this state: https://rosettacode.org/wiki/Pseudo-random_numbers/Splitmix64
    expected = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert [random.bits() for _ in expected] == expected


def test_equal_seeds_give_equal_streams() -> None:
    def draws(seed: str) -> list[int]:
        random = Random(seed)
        return [random.below(1000) for _ in range(20)]

    assert draws("a") == draws("a") != draws("b")


def test_draws_are_uniform() -> None:
    random = Random("uniform")
    counts = [0] * 7
    for _ in range(70_000):
        counts[random.below(7)] += 1
    assert all(abs(count - 10_000) < 500 for count in counts)  # five standard deviations
    assert {random.between(3, 5) for _ in range(100)} == {3, 4, 5}
    assert 2600 < sum(random.chance(30) for _ in range(10_000)) < 3400


def test_weights_are_shares() -> None:
    random = Random("weights")
    draws = [random.weighted({"rare": 1, "never": 0, "often": 9}) for _ in range(10_000)]
    assert 800 < draws.count("rare") < 1200
    assert draws.count("never") == 0


@pytest.mark.parametrize("count", [0, 1, 3, 5])
def test_samples_come_from_different_places(count: int) -> None:
    random = Random("sample")
    items = list("abcde")
    samples = [random.sample(items, count) for _ in range(200)]
    assert all(len(set(sample)) == count and set(sample) <= set(items) for sample in samples)
    assert items == list("abcde")


def test_every_order_of_a_shuffle_occurs() -> None:
    random = Random("shuffle")
    assert len({tuple(random.shuffle("abcd")) for _ in range(1000)}) == 24
