import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sciml import train

SAMPLES, SIZE, IN, OUT = 23, 5, 3, 2


class Data:
    def __init__(self):
        rng = np.random.default_rng(0)
        self.x = rng.normal(size=(SAMPLES, IN)).astype(np.float32)
        self.y = np.sin(self.x[:, :OUT])

    def __len__(self):
        return SAMPLES

    def __getitem__(self, rows):
        return {"x": self.x[rows], "y": self.y[rows]}


def rows(k):
    return np.random.default_rng(k).permutation(SAMPLES)[:SIZE]


def loss(model, batch, keys):
    noise = 0.01 * jax.vmap(lambda key: jax.random.normal(key, (2,)))(keys)
    error = batch["x"] @ model["weight"] + noise - batch["y"]
    return jnp.mean(error**2), {}


def setting(rate=1e-2, source=train.resident, loss=loss):
    optimiser = optax.inject_hyperparams(optax.adam)(rate)
    batches = source(Data(), rows)
    state = train.init({"weight": jnp.ones((IN, OUT))}, optimiser)
    return state, train.make_step(loss, optimiser, seed=3, fetch=batches.fetch), batches


def weight(state):
    return np.array(state.model["weight"])


def test_resident_and_streamed_batches_train_the_same():
    one, other = (weight(train.fit(*setting(source=which), steps=11)) for which in (train.resident, train.streamed))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("limit", "resident"), [(SAMPLES * 20, True), (SAMPLES * 20 - 1, False), (None, True)])
def test_data_stay_on_the_device_if_they_fit(limit, resident):
    batches = train.batches(Data(), rows, limit=limit)  # a sample takes 5 float32 = 20 bytes
    assert (batches.source is not None) == resident
    batch = batches.fetch(batches.source, batches.item(4))
    np.testing.assert_array_equal(batch["x"], Data().x[rows(4)])


def test_training_in_pieces_is_training_at_once():
    whole = train.fit(*setting(), steps=12)
    state, step, batches = setting()
    for steps in (5, 6, 12, 12):
        state = train.fit(state, step, batches, steps=steps)
    np.testing.assert_array_equal(weight(state), weight(whole))
    assert int(state.step) == 12


@pytest.mark.parametrize("size", [1, 2])
def test_hooks_learn_the_time_of_the_steps_without_their_own_and_without_compilation(size):
    seen, pause = [], 0.1
    look, wait = lambda event: seen.append(event.seconds), lambda event: time.sleep(pause)
    train.fit(*setting(), steps=6 * size, hooks=[train.every(size, look), train.every(size, wait)], dispatch=size)
    assert len(seen) == 6
    assert seen[0] == 0.0  # the first dispatch compiles; its time is known once there is another one
    assert 0 < seen[1] <= seen[-1] < 5 * pause  # steps take less than a millisecond
    assert seen == sorted(seen)


@pytest.mark.parametrize("dispatch", [None, 1, 4])
def test_hooks_see_every_step_once_at_their_cadence(dispatch):
    seen = {"often": [], "rarely": []}
    losses = {"often": [], "rarely": []}

    def record(name, event):
        seen[name].append((event.step, int(event.state.step)))
        losses[name].extend(event.logs["loss"])
        assert event.steps == 14

    hooks = [train.every(n, functools.partial(record, name)) for n, name in ((4, "often"), (6, "rarely"))]
    train.fit(*setting(), steps=14, hooks=hooks, dispatch=dispatch)
    assert seen["often"] == [(4, 4), (8, 8), (12, 12), (14, 14)]
    assert seen["rarely"] == [(6, 6), (12, 12), (14, 14)]
    assert len(losses["often"]) == 14
    np.testing.assert_array_equal(losses["often"], losses["rarely"])


def test_dispatches_of_several_steps_train_the_same():
    each, four = (weight(train.fit(*setting(), steps=12, dispatch=n)) for n in (1, 4))
    np.testing.assert_allclose(each, four, rtol=1e-5)  # other compilations round differently


def test_later_hooks_see_the_numbers_of_earlier_ones():
    seen = []
    hooks = [
        train.every(2, lambda event: {"a": float(event.step)}),
        train.every(3, lambda event: {"b": 1.0}),
        train.every(1, lambda event: seen.append(event.metrics)),
    ]
    train.fit(*setting(), steps=4, hooks=hooks)
    assert seen == [{}, {"a": 2.0}, {"b": 1.0}, {"a": 4.0, "b": 1.0}]


def test_a_hook_can_end_the_run():
    def stop(event):
        raise train.Stop("enough")

    state = train.fit(*setting(), steps=100, hooks=[train.every(3, stop)])
    assert int(state.step) == 3


@pytest.mark.parametrize("dispatch", [1, 4])
def test_a_loss_that_is_not_finite_ends_the_run_before_any_hook_sees_it(dispatch):
    def breaking(model, batch, keys):
        value, logs = loss(model, batch, keys)
        fold = jax.random.fold_in
        broken = jax.random.key_data(keys[0])[0] == jax.random.key_data(fold(fold(jax.random.key(3), 6), 0))[0]
        return jnp.where(broken, jnp.nan, value), logs

    seen = []
    hooks = [train.every(4, lambda event: seen.append(event.step))]
    with pytest.raises(FloatingPointError, match=r"The loss is nan at step 7, learning rate 0\.02\. Lower the"):
        train.fit(*setting(0.02, loss=breaking), steps=100, hooks=hooks, dispatch=dispatch)
    assert seen == [4]


def test_a_cadence_must_be_positive():
    with pytest.raises(ValueError, match="every 1 or more steps, got 0"):
        train.every(0, print)


def test_predictions_in_batches_are_predictions_one_by_one():
    x = Data().x
    model = lambda sample: {"sum": sample.sum(), "twice": 2 * sample}
    outputs = train.predict(model, x, size=7)  # 23 = 3 * 7 + 2: the last batch is filled up
    assert isinstance(outputs["sum"], np.ndarray)
    np.testing.assert_array_equal(outputs["twice"], 2 * x)
    np.testing.assert_allclose(outputs["sum"], x.sum(1), rtol=1e-5, atol=1e-6)


def test_a_batch_that_does_not_fit_is_halved():
    sizes = []

    def model(x):
        def fits(x):
            sizes.append(len(x))
            if len(x) > 3:
                raise MemoryError("RESOURCE_EXHAUSTED: too many")
            return 2 * x

        shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
        return jax.pure_callback(fits, shape, x, vmap_method="expand_dims")

    x = np.arange(11, dtype=np.float32)[:, None]
    np.testing.assert_array_equal(train.predict(model, x, size=8), 2 * x)
    assert set(sizes) == {8, 4, 2}
    with pytest.raises(jax.errors.JaxRuntimeError, match="another"):
        train.predict(lambda x: jax.pure_callback(lambda x: _fail("another"), x, x, vmap_method="expand_dims"), x)


def _fail(text):
    raise ValueError(text)


def test_predictions_of_a_model_of_several_arguments():
    x, y = np.arange(10.0, dtype=np.float32).reshape(5, 2), {"y": np.arange(5.0, dtype=np.float32)}
    found = train.predict(lambda x, more: x * more["y"], x, y, size=3)
    np.testing.assert_array_equal(found, x * y["y"][:, None])
