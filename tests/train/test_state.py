import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import assert_trees_close

from sciml import losses, train
from sciml.nn import Frozen, partition

SAMPLES, IN, OUT = 12, 3, 2


class Affine(eqx.Module):
    """y = W (x / scale) + b, with a scale that is not trained."""

    weight: jax.Array
    bias: jax.Array
    scale: Frozen
    activation: object = jnp.tanh

    def __call__(self, x):
        return self.weight @ (x / self.scale.value) + self.bias


def affine(seed=0):
    rng = np.random.default_rng(seed)
    weight, bias = rng.normal(size=(OUT, IN)), rng.normal(size=OUT)
    return Affine(jnp.asarray(weight, jnp.float32), jnp.asarray(bias, jnp.float32), Frozen(jnp.full(IN, 2.0)))


def batch(k, size=SAMPLES):
    rng = np.random.default_rng(100 + k)
    x = rng.normal(size=(size, IN)).astype(np.float32)
    return x, np.sin(x[:, :OUT]) + 1


def loss(model, batch, keys):
    error = jax.vmap(model)(batch[0]) - batch[1]
    return jnp.mean(error**2), {"largest": jnp.max(jnp.abs(error))}


def stack(*batches):
    return jax.tree.map(lambda *parts: np.stack(parts), *batches)


def steps(optimiser, items, loss=loss, model=None, **options):
    """State and logs after one step for each item, dispatched together."""
    state = train.init(affine() if model is None else model, optimiser)
    return train.make_step(loss, optimiser, **options)(state, None, stack(*items))


def test_one_step_is_gradient_descent_by_hand():
    model = affine()
    x, y = batch(0)
    state, logs = steps(optax.sgd(0.1), [(x, y)])
    z = x / 2.0
    residual = z @ np.asarray(model.weight).T + np.asarray(model.bias) - y
    slope = 2 * residual / residual.size
    gradient = slope.T @ z, slope.sum(0)
    # float32 sums of about 30 numbers of size one
    np.testing.assert_allclose(state.model.weight, model.weight - 0.1 * gradient[0], atol=2e-6)
    np.testing.assert_allclose(state.model.bias, model.bias - 0.1 * gradient[1], atol=2e-6)
    np.testing.assert_allclose(logs["loss"], [np.mean(residual**2)], rtol=1e-5)
    np.testing.assert_allclose(logs["largest"], [abs(residual).max()], rtol=1e-5)
    norm = np.sqrt(sum((part**2).sum() for part in gradient))
    np.testing.assert_allclose(logs["gradient_norm"], [norm], rtol=1e-5)
    assert int(state.step) == 1
    assert "learning_rate" not in logs


def test_several_steps_in_one_dispatch_are_single_steps():
    optimiser = optax.adamw(1e-2)
    step = train.make_step(loss, optimiser)
    state, single = train.init(affine(), optimiser), []
    for k in range(5):
        state, logs = step(state, None, stack(batch(k)))
        single.append(logs["loss"][0])
    together, logs = steps(optimiser, [batch(k) for k in range(5)])
    np.testing.assert_allclose(logs["loss"], single, rtol=1e-5)  # another compilation rounds differently
    np.testing.assert_allclose(together.model.weight, state.model.weight, rtol=1e-5)


def test_what_is_frozen_does_not_move_under_weight_decay_and_static_parts_stay():
    state, _ = steps(optax.adamw(1e-2, weight_decay=0.5), [batch(k) for k in range(9)])
    np.testing.assert_array_equal(state.model.scale.value, 2.0)
    assert state.model.activation is jnp.tanh
    assert all(leaf.shape != (IN,) for leaf in jax.tree.leaves(state.opt_state))


def test_the_callers_model_survives_donation():
    model = affine()
    before = np.array(model.weight)
    optimiser = optax.chain(optax.adam(1e-2), train.ema(0.9))
    state = train.init(model, optimiser)
    train.make_step(loss, optimiser)(state, None, stack(batch(0)))
    np.testing.assert_array_equal(model.weight, before)
    assert state.model.weight.is_deleted()


def test_the_learning_rate_of_a_schedule_is_logged():
    schedule = optax.cosine_decay_schedule(0.5, 4)
    _, logs = steps(optax.inject_hyperparams(optax.sgd)(schedule), [batch(k) for k in range(4)])
    np.testing.assert_allclose(logs["learning_rate"], [0.25 * (1 + np.cos(np.pi * k / 4)) for k in range(4)], rtol=1e-6)


def test_keys_depend_on_seed_and_step_only():
    def noise(model, batch, keys):
        return jnp.sum(model.bias**2) * 0, {"noise": jax.vmap(jax.random.normal)(keys)[1]}

    _, logs = steps(optax.sgd(0.1), [batch(0)] * 3, loss=noise, seed=7)
    fold = jax.random.fold_in
    expected = [jax.random.normal(fold(fold(jax.random.key(7), k), 1)) for k in range(3)]  # step k, sample 1
    np.testing.assert_allclose(logs["noise"], expected, rtol=1e-6)


def test_a_scheduled_loss_sees_the_number_of_steps_done():
    coefficient = optax.exponential_decay(1.0, 1, 0.5)  # 1, 1/2, 1/4

    def at(step):
        return lambda model, batch, keys: (coefficient(step) * jnp.sum(model.bias), {"coefficient": coefficient(step)})

    state, logs = steps(optax.sgd(1.0), [batch(0), batch(1), batch(2)], loss=train.Scheduled(at))
    np.testing.assert_allclose(logs["coefficient"], [1, 0.5, 0.25], rtol=1e-6)
    np.testing.assert_allclose(state.model.bias, affine().bias - 1.75, rtol=1e-6)


PHASES = ((2, 1.0), (3, 10.0), (1, 100.0))


def phased():
    """A curriculum of losses that are a constant times the sum of the biases."""

    @dataclasses.dataclass(frozen=True)
    class Constant(losses.AbstractForecastLoss):
        factor: float
        history: int = 1

        def horizon(self, bundle=1):
            return bundle

        def __call__(self, model, batch, keys):
            return self.factor * jnp.sum(model.bias), {"factor": jnp.asarray(self.factor)}

    return losses.Curriculum([(steps, Constant(factor)) for steps, factor in PHASES])


@pytest.mark.parametrize("cuts", [(8,), (1,) * 8, (3, 4, 1), (2, 3, 3)])
def test_the_phases_of_a_curriculum_follow_one_another(cuts):
    """However many steps a dispatch has: 2, 3 and then the rest of 8 steps with factors 1, 10 and 100."""
    optimiser = optax.sgd(1.0)
    step, state, found = train.make_step(phased(), optimiser), train.init(affine(), optimiser), []
    for count in cuts:
        state, logs = step(state, None, stack(*[batch(0)] * count))
        assert logs["loss"].shape == (count,)
        found += logs["factor"].tolist()
    assert found == [1] * 2 + [10] * 3 + [100] * 3
    assert int(state.step) == 8
    np.testing.assert_allclose(state.model.bias, affine().bias - (2 + 30 + 300), rtol=1e-6)


def test_a_resumed_curriculum_goes_on_in_its_phase():
    optimiser = optax.adam(0.1)
    whole, parts = (train.init(affine(), optimiser) for _ in range(2))
    whole, _ = train.make_step(phased(), optimiser)(whole, None, stack(*[batch(k) for k in range(6)]))
    for first, last in ((0, 4), (4, 6)):  # a new process compiles again
        parts, _ = train.make_step(phased(), optimiser)(parts, None, stack(*[batch(k) for k in range(first, last)]))
    assert_trees_close(*(eqx.filter(one, eqx.is_array) for one in (parts, whole)), rtol=1e-6, atol=1e-7)


def test_accumulating_four_batches_is_one_step_with_their_union():
    parts = [batch(k, 3) for k in range(4)]
    optimiser = optax.MultiSteps(optax.chain(optax.sgd(0.3), train.ema(0.5)), 4)
    state, _ = steps(optimiser, parts)
    whole, _ = steps(optax.sgd(0.3), [jax.tree.map(lambda *x: np.concatenate(x), *parts)])
    np.testing.assert_allclose(state.model.weight, whole.model.weight, rtol=1e-5)
    mean = train.ema_model(state)  # one update of the mean: p0 + 0.9 (p1 - p0)
    weight = 0.1 * np.asarray(affine().weight) + 0.9 * np.asarray(whole.model.weight)
    np.testing.assert_allclose(mean.weight, weight, rtol=1e-5)


def test_clipping_bounds_the_step():
    model = affine()
    state, logs = steps(optax.chain(optax.clip_by_global_norm(0.01), optax.sgd(1.0)), [batch(0)])
    moved = optax.tree.norm(jax.tree.map(jnp.subtract, partition(state.model)[0], partition(model)[0]))
    assert logs["gradient_norm"][0] > 0.1
    np.testing.assert_allclose(moved, 0.01, rtol=1e-4)  # float32 differences of numbers of size one


def test_the_average_follows_its_recursion():
    decay, optimiser = 0.3, optax.chain(optax.sgd(0.1), train.ema(0.3))
    step = train.make_step(loss, optimiser)
    state = train.init(affine(), optimiser)
    mean = np.array(state.model.weight)
    for k in range(6):
        state, _ = step(state, None, stack(batch(k)))
        keep = min(decay, (1 + k) / (10 + k))
        mean = keep * mean + (1 - keep) * np.asarray(state.model.weight)
    averaged = train.ema_model(state)
    np.testing.assert_allclose(averaged.weight, mean, rtol=1e-5)
    assert not np.allclose(averaged.weight, state.model.weight, rtol=1e-5)
    np.testing.assert_array_equal(averaged.scale.value, 2.0)


def test_without_an_average_the_model_itself_is_evaluated():
    state = train.init(affine(), optax.adam(1e-3))
    assert train.ema_model(state) is state.model


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_outside_of_its_interval_is_refused(decay):
    with pytest.raises(ValueError, match=r"in \[0, 1\), got"):
        train.ema(decay)


def test_an_average_needs_the_parameters():
    average = train.ema(0.9)
    with pytest.raises(ValueError, match=r"update\(gradient, state, parameters\)"):
        average.update(jnp.ones(2), average.init(jnp.ones(2)))


def test_complex_parameters_are_refused_unless_frozen():
    with pytest.raises(ValueError, match=r"complex64 at model\['a'\].*two real arrays"):
        train.init({"a": jnp.ones(2, jnp.complex64)}, optax.sgd(0.1))
    train.init({"a": Frozen(jnp.ones(2, jnp.complex64))}, optax.sgd(0.1))


def test_an_optimiser_that_searches_a_line_solves_least_squares():
    data = batch(0)
    _, logs = steps(optax.lbfgs(), [data] * 25)
    z = np.concatenate([data[0] / 2, np.ones((SAMPLES, 1))], 1)
    best = np.linalg.lstsq(z, data[1], rcond=None)[1].sum() / data[1].size
    np.testing.assert_allclose(logs["loss"][-1], best, rtol=1e-4)


def test_the_size_of_a_model_counts_what_is_trained():
    assert train.parameters(affine()) == OUT * IN + OUT


def test_a_step_compiles_once():
    traces = []

    def counting(model, batch, keys):
        traces.append(1)
        return loss(model, batch, keys)

    optimiser = optax.inject_hyperparams(optax.adam)(optax.cosine_decay_schedule(0.5, 4))
    step = train.make_step(counting, optimiser)
    state = train.init(affine(), optimiser)
    for k in range(4):
        state, _ = step(state, None, stack(batch(k)))
    assert len(traces) == 1


def test_a_step_that_changes_the_form_of_its_state_is_refused():
    grow = optax.GradientTransformation(lambda params: (), lambda updates, state, params=None: (updates, (*state, 1.0)))
    number = optax.GradientTransformation(
        lambda params: 0.5, lambda updates, state, params=None: (updates, jnp.asarray(0.5))
    )
    for optimiser, message in ((grow, "keep the structure of its state"), (number, "keep which leaves are arrays")):
        state = train.init(eqx.nn.Linear(2, 2, key=jax.random.key(0)), optimiser)
        step = train.make_step(lambda model, batch, keys: (model(batch).sum(), {}), optimiser)
        with pytest.raises(ValueError, match=message):
            step(state, None, jnp.ones((1, 2)))
