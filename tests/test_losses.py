"""Losses against what they are made of."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml import losses, metrics
from sciml.pdes import Burgers, Darcy


def keys_of(number, seed=0):
    return jax.random.split(jax.random.key(seed), number)


class Scale(eqx.Module):
    factor: jax.Array

    def __call__(self, x):
        return self.factor * x


def test_supervised_is_the_scaled_mean_over_the_batch():
    x, y = np.random.default_rng(0).normal(size=(2, 5, 1, 4, 6)).astype(np.float32)
    value, logs = losses.supervised(metrics.relative_l2, scale=5.0)(Scale(jnp.array(2.0)), (x, y), keys_of(5))
    expected = sum(np.linalg.norm(2 * a - b) / np.linalg.norm(b) for a, b in zip(x, y, strict=True))
    assert float(value) == pytest.approx(expected, rel=1e-6)
    assert logs == {}


def test_unsupervised_losses_ignore_the_solutions():
    x, y = np.random.default_rng(1).normal(size=(2, 3, 1, 4, 6)).astype(np.float32)
    loss = losses.unsupervised(lambda x, prediction: jnp.sum((prediction - 3 * x) ** 2))
    value, logs = loss(Scale(jnp.array(2.0)), (x, y), keys_of(3))
    assert float(value) == pytest.approx(np.sum(x**2) / 3, rel=1e-6)
    assert loss(Scale(jnp.array(3.0)), (x, np.nan * y), keys_of(3))[0] == 0
    assert logs == {}


def test_the_residual_of_predictions_is_added_and_logged():
    """A steady field u: the residual of Burgers' equation of 2u is 4 u u_x - 2 nu u_xx."""
    problem = Burgers(resolution=32, length=2 * np.pi, viscosity=0.3)
    x = np.arange(32) * 2 * np.pi / 32
    u = np.float32(np.broadcast_to(np.stack([np.sin(x), np.cos(2 * x)])[:, None, None], (2, 1, 5, 32)))
    data = losses.supervised(metrics.relative_l2)
    both = losses.informed(data, lambda x, u: problem.residual(u), weight=0.25)
    value, logs = both(Scale(jnp.array(2.0)), (u, u), keys_of(1))
    squares = [
        np.mean((4 * np.sin(x) * np.cos(x) + 0.6 * np.sin(x)) ** 2),
        np.mean((-8 * np.cos(2 * x) * np.sin(2 * x) + 2.4 * np.cos(2 * x)) ** 2),
    ]
    assert float(logs["residual"]) == pytest.approx(np.mean(squares), rel=1e-4)  # float32 derivatives of 32 points
    assert float(value) == pytest.approx(1.0 + 0.25 * np.mean(squares), rel=1e-4)
    gradient = jax.grad(lambda m: both(m, (u, u), keys_of(1))[0])(Scale(jnp.array(2.0)))
    assert float(gradient.factor) > 0


def test_every_symmetry_of_the_square_moves_inputs_and_outputs_alike():
    corner = jnp.arange(9.0).reshape(1, 3, 3)
    moved, other = jax.vmap(lambda key: losses.square_symmetry((corner, 10 * corner), key))(keys_of(400))
    np.testing.assert_array_equal(other, 10 * moved)
    of_square = [np.rot90(one, k) for one in (corner[0], corner[0].T) for k in range(4)]
    found, counts = np.unique(np.asarray(moved).reshape(400, 9), axis=0, return_counts=True)
    assert {tuple(one) for one in found} == {tuple(one.ravel()) for one in of_square}
    assert counts.min() > 400 / 8 / 2


def test_transposition_exchanges_the_axes_of_half_of_the_samples():
    corner = jnp.arange(9.0).reshape(1, 3, 3)
    moved, other = jax.vmap(lambda key: losses.transposition((corner, 10 * corner), key))(keys_of(400))
    np.testing.assert_array_equal(other, 10 * moved)
    transposed = np.asarray((moved == corner.swapaxes(1, 2)[None]).all((1, 2, 3)))
    np.testing.assert_array_equal(moved[~transposed], np.broadcast_to(corner, moved.shape)[~transposed])
    assert 150 < transposed.sum() < 250


@jax.enable_x64(True)
def test_moved_samples_of_darcy_flow_are_solutions_still():
    permeability = jnp.asarray(np.random.default_rng(0).choice([2.0, 12.0], (6, 16, 16)))
    solved = jax.vmap(Darcy(resolution=16).pressure)
    samples = permeability[:, None], solved(permeability)[:, None]
    x, y = jax.vmap(losses.square_symmetry)(samples, keys_of(6, seed=1))
    assert sum(not np.array_equal(*pair) for pair in zip(x[:, 0], permeability, strict=True)) >= 4
    np.testing.assert_allclose(y[:, 0], solved(x[:, 0]), rtol=1e-9)


def test_augmented_samples_reach_the_loss():
    x, y = np.random.default_rng(0).normal(size=(2, 5, 1, 4, 4)).astype(np.float32)
    plain = losses.supervised(metrics.relative_l2)
    doubled = losses.augmented(plain, lambda sample, key: (sample[0], 2 * sample[1]))
    model, keys = Scale(jnp.array(1.0)), keys_of(5)
    assert float(doubled(model, (x, y), keys)[0]) == pytest.approx(float(plain(model, (x, 2 * y), keys)[0]))


@pytest.mark.parametrize("shape", [(1, 4, 5), (1, 4), (1, 4, 4, 4)])
def test_only_squares_have_the_symmetries_of_the_square(shape):
    with pytest.raises(ValueError, match=r"Expected fields \(channels, n, n\)"):
        losses.square_symmetry((np.zeros(shape),), jax.random.key(0))
    with pytest.raises(ValueError, match=r"Expected fields \(channels, n, n\)"):
        losses.transposition((np.zeros(shape),), jax.random.key(0))


def test_noisy_inputs_have_the_deviation_that_was_asked_for_and_leave_the_targets():
    x = np.random.default_rng(0).normal(3.0, (1.0, 10.0), (6, 64, 64, 2)).transpose(0, 3, 1, 2).astype(np.float32)
    y = np.ones((6, 1, 64, 64), np.float32)
    given = losses.noisy_inputs(lambda model, batch, keys: (jnp.zeros(()), dict(zip("xy", batch, strict=True))), 0.01)
    noisy = given(None, (x, y), keys_of(6))[1]
    np.testing.assert_array_equal(noisy["y"], y)
    np.testing.assert_allclose(np.std(noisy["x"] - x, axis=(0, 2, 3)), (0.01, 0.1), rtol=0.02)
    assert not np.array_equal(noisy["x"], given(None, (x, y), keys_of(6, seed=1))[1]["x"])
    with pytest.raises(ValueError, match=r"at least 0, got -0\.1"):
        losses.noisy_inputs(given, -0.1)


class Step(eqx.Module):
    """A conditioned step whose frames are `factor` times the mean of the frames seen, plus parameters, dt and fixed."""

    factor: jax.Array
    bundle: int = eqx.field(static=True, default=1)

    def __call__(self, frames, conditions):
        shift = conditions.fixed.sum(0) + conditions.parameters.sum() + conditions.dt
        mean = frames.sum(0) / 2
        return jnp.stack([(self.factor + i) * mean + shift[None] for i in range(self.bundle)])


SAMPLES, CHANNELS, NX, NY, LATER = 5, 2, 3, 4, 7
FACTOR = 1.3


def windows(history, later=LATER, seed=0):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: np.float32(rng.normal(size=(SAMPLES, *shape)))
    frames = draw(history + later, CHANNELS, NX, NY)
    return {"frames": frames, "fixed": draw(1, NX, NY), "parameters": draw(3), "dt": np.abs(draw())}


def rolled(batch, factor, *, history, bundle, steps):
    """Frames `(samples, steps, bundle, channels, *space)` of a rollout in float64."""
    b = {name: value.astype(float) for name, value in batch.items()}
    shift = (b["fixed"].sum(1) + (b["parameters"].sum(1) + b["dt"])[:, None, None])[:, None]
    known, new = list(np.moveaxis(b["frames"][:, :history], 1, 0)), []
    for _ in range(steps):
        mean = sum(known[-history:]) / 2 if history else 0 * shift
        new.append([(factor + i) * mean + shift for i in range(bundle)])
        known += new[-1]
    return np.moveaxis(np.asarray(new), 2, 0)


def step_errors(batch, new, history):
    """The mean over samples and frames of the relative error of each step."""
    steps, bundle = new.shape[1:3]
    truth = batch["frames"][:, history : history + steps * bundle].astype(float).reshape(new.shape)
    norm = lambda x: np.sqrt((x**2).sum(axis=(3, 4, 5)))
    return (norm(new - truth) / norm(truth)).mean(axis=(0, 2))


@pytest.mark.parametrize(("history", "bundle", "steps"), [(1, 1, 1), (2, 1, 4), (3, 2, 3), (1, 3, 2), (0, 2, 1)])
def test_unrolled_is_the_mean_error_of_a_rollout(history, bundle, steps):
    batch = windows(history)
    loss = losses.Unrolled(steps, history=history)
    assert loss.horizon(bundle) == steps * bundle <= LATER  # the windows are longer: their last frames are not used
    value, logs = loss(Step(jnp.array(FACTOR), bundle), batch, keys_of(len(batch["frames"])))
    new = rolled(batch, FACTOR, history=history, bundle=bundle, steps=steps)
    if history == 0:
        new = np.broadcast_to(new, (SAMPLES, steps, bundle, CHANNELS, NX, NY))
    expected = step_errors(batch, new, history)
    np.testing.assert_allclose(value, expected.mean(), rtol=1e-5)  # float32
    np.testing.assert_allclose(logs["last_step"], expected[-1], rtol=1e-5)


def derivative(loss, batch):
    gradient = jax.grad(lambda model: loss(model, batch, keys_of(len(batch["frames"])))[0])(Step(jnp.array(FACTOR)))
    return float(gradient.factor)


def partial_error(batch, step, free, history=2, change=1e-5):
    """Central difference of the error of a step, counted from 1, in the factor of its last `free` steps alone."""

    def error(factor):
        start = rolled(batch, FACTOR, history=history, bundle=1, steps=LATER)[:, :, 0]
        seen = np.concatenate((batch["frames"][:, :history], start[:, : step - free]), axis=1)[:, -history:]
        moved = batch | {"frames": np.concatenate((seen, batch["frames"][:, history:]), axis=1)}
        last = rolled(moved, factor, history=history, bundle=1, steps=free)[:, -1:]
        truth = batch["frames"][:, history + step - 1 : history + step]
        return step_errors({"frames": truth}, last, 0)[0]

    return (error(FACTOR + change) - error(FACTOR - change)) / (2 * change)


def test_gradients_pass_through_all_steps_or_to_the_last_cut():
    """Against differences: with a cut after each 2 steps, steps 1 to 5 depend on 1, 2, 1, 2, 1 uses of the factor."""
    batch = windows(2)
    for cut, uses in ((None, (1, 2, 3, 4, 5)), (2, (1, 2, 1, 2, 1)), (1, (1, 1, 1, 1, 1)), (5, (1, 2, 3, 4, 5))):
        expected = np.mean([partial_error(batch, step, free) for step, free in enumerate(uses, start=1)])
        found = derivative(losses.Unrolled(5, cut=cut, history=2), batch)
        assert found == pytest.approx(expected, rel=1e-3), cut  # start frames are rounded to float32


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_pushforward_has_the_gradients_of_the_first_and_the_last_step(weight):
    batch, loss = windows(2), losses.Pushforward(4, one_step=weight, history=2)
    errors = step_errors(batch, rolled(batch, FACTOR, history=2, bundle=1, steps=4), 2)
    value, logs = loss(Step(jnp.array(FACTOR)), batch, keys_of(len(batch["frames"])))
    np.testing.assert_allclose(value, weight * errors[0] + errors[-1], rtol=1e-5)
    np.testing.assert_allclose(logs["last_step"], errors[-1], rtol=1e-5)
    expected = weight * partial_error(batch, 1, 1) + partial_error(batch, 4, 1)
    assert derivative(loss, batch) == pytest.approx(expected, rel=1e-3)
    assert loss.horizon(3) == 12


def test_noise_has_the_deviation_of_the_channels_and_leaves_the_targets_alone():
    rng = np.random.default_rng(0)
    scale = np.float32([0.1, 7.0]).reshape(2, 1, 1)
    frames = 3 + scale * np.float32(rng.normal(size=(200, 3, 2, 8, 9)))
    frames[:, 2] = frames[:, 1]  # so that the error of a model that returns what it sees is the noise alone
    batch = {
        "frames": frames,
        "fixed": frames[:, 0, :0],
        "parameters": frames[:, 0, 0, 0, :0],
        "dt": frames[:, 0, 0, 0, 0],
    }
    mean_square = lambda new, truth: jnp.mean((new - truth) ** 2 / scale**2)
    noisy = losses.Noisy(0.3, losses.Unrolled(1, history=2, metric=mean_square))
    model = lambda frames, conditions: frames[1:]
    value, _ = noisy(model, batch, keys_of(len(batch["frames"])))
    assert float(value) == pytest.approx(0.3**2, rel=0.02)  # 28,800 values: the deviation of the mean is 0.8 %
    again, _ = noisy(model, batch, keys_of(len(batch["frames"])))
    other, _ = noisy(model, batch, keys_of(len(batch["frames"]), seed=1))
    assert value == again != other
    assert float(losses.Noisy(0.0, noisy.loss)(model, batch, keys_of(len(batch["frames"])))[0]) == 0
    assert noisy.history == 2
    assert noisy.horizon(3) == 3


def test_a_curriculum_says_when_its_phases_begin_and_what_they_need():
    plan = losses.Curriculum([(3, losses.Unrolled(1, history=2)), (5, losses.Pushforward(4, history=2))])
    assert plan.starts == (0, 3)
    assert (plan.history, plan.horizon(), plan.horizon(2)) == (2, 4, 8)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: losses.Unrolled(0), "at least one step that is continued or compared, got 0"),
        (lambda: losses.Unrolled(2, cut=0), "a cut after 1 or more steps, got 0"),
        (lambda: losses.Unrolled(2, history=0), r"history of at least 1, got 0. Maps \(history 0\)"),
        (lambda: losses.Unrolled(1, history=-1), "history of at least 0, got -1"),
        (lambda: losses.Pushforward(1), "continued or compared, got 0"),
        (lambda: losses.Pushforward(2, history=0), "use Unrolled"),
        (lambda: losses.Noisy(-0.1), "at least 0, got -0.1"),
        (lambda: losses.Noisy(0.1, losses.Unrolled(1, history=0)), "to continue or to disturb"),
        (lambda: losses.Curriculum([]), "got 0 phases"),
        (lambda: losses.Curriculum([(0, losses.Unrolled())]), r"1 phases of \[0\] steps"),
        (
            lambda: losses.Curriculum([(1, losses.Unrolled()), (1, losses.Unrolled(history=2))]),
            r"losses of one history, got 2 phases .* histories \[1, 2\]",
        ),
        (
            lambda: losses.Unrolled(4)(Step(jnp.array(1.0), 2), windows(1), keys_of(1)),
            "windows of at least 8 frames after the history for 4 steps of 2, got 7. Use a horizon",
        ),
    ],
)
def test_settings_and_windows_that_do_not_fit(make, message):
    with pytest.raises(ValueError, match=message):
        make()
