import numpy as np
import pytest

from sciml.data import Pairs, in_order, rows


@pytest.mark.parametrize(("n", "size"), [(12, 4), (10, 4), (7, 7), (7, 5), (5, 1)])
def test_every_sample_once_in_each_epoch(n, size):
    epochs = 6
    batches = [rows(n, size, 3, k) for k in range(-(-epochs * n // size))]
    assert {len(batch) for batch in batches} == {size}
    stream = np.concatenate(batches)[: epochs * n].reshape(epochs, n)
    np.testing.assert_array_equal(np.sort(stream, axis=1), np.tile(np.arange(n), (epochs, 1)))
    if n > 6:  # 1 of 5040 orders would repeat
        assert len(np.unique(stream, axis=0)) == epochs


def test_batches_are_a_pure_function_of_seed_and_number():
    forward = [rows(11, 4, 5, k).tolist() for k in range(9)]
    backward = [rows(11, 4, 5, k).tolist() for k in reversed(range(9))]
    assert forward == backward[::-1]
    assert forward != [rows(11, 4, 6, k).tolist() for k in range(9)]


def test_the_order_is_the_same_in_every_version():
    # Stored: another order would make a resumed run see other batches.
    assert rows(7, 7, 0, 0).tolist() == [6, 3, 1, 4, 5, 2, 0]
    assert rows(7, 7, 2, 1000).tolist() == [0, 3, 6, 2, 4, 1, 5]


def test_a_batch_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        rows(7, 3, 0, 0)[0] = 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((5, 6, 0, 0), "1 to 5 samples, as many as there are, got 6"),
        ((5, 0, 0, 0), "got 0"),
        ((5, 2, 0, -1), "numbered from 0, got -1"),
        ((5, 2, -1, 0), ">= 0, got -1"),
    ],
)
def test_bad_batches(arguments, message):
    with pytest.raises(ValueError, match=message):
        rows(*arguments)


@pytest.mark.parametrize(("n", "size", "used"), [(10, 4, 4), (8, 4, 4), (3, 5, 3), (1, 1, 1)])
def test_in_order_covers_all_samples_with_one_batch_size(n, size, used):
    x = np.arange(2.0 * n).reshape(n, 2, 1)
    batches = list(in_order(Pairs(x, -x), size))
    assert {len(batch[0]) for batch, _ in batches} == {used}
    assert {mask.shape for _, mask in batches} == {(used,)}
    np.testing.assert_array_equal(np.concatenate([batch[0][mask] for batch, mask in batches]), x)
    np.testing.assert_array_equal(np.concatenate([batch[1][mask] for batch, mask in batches]), -x)


def test_in_order_refuses_empty_batches():
    with pytest.raises(ValueError, match="at least one sample"):
        next(in_order(Pairs(np.ones((2, 1, 3)), np.ones((2, 1, 3))), 0))


def test_the_order_is_independent_of_numpys_default_generator_with_the_same_seed():
    drawn = np.random.default_rng(3).random(50)  # batches in the order of the data's own values would be biased
    assert not np.array_equal(np.argsort(drawn), rows(50, 50, 3, 0))
