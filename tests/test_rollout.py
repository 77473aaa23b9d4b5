import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.rollout import Conditions, followed_by, forecast, forecast_batch, rollout, rollout_batch, rollout_windows

CHANNELS, NX, NY, N = 2, 3, 4, 6


def nonlinear(u):
    return jnp.roll(u, 1, axis=1) * 0.7 + jnp.sin(u[::-1])


def test_rollout_is_a_loop(getkey):
    u = jax.random.normal(getkey(), (CHANNELS, NX, NY))
    found, expected = jax.jit(lambda u: rollout(nonlinear, u, N))(u), []
    for _ in range(N):
        u = nonlinear(u)
        expected.append(u)
    np.testing.assert_allclose(found, np.stack(expected), rtol=1e-5, atol=1e-6)  # float32, six steps


def test_rollout_of_a_linear_map_is_its_powers(getkey):
    with jax.enable_x64(True):
        matrix = jax.random.normal(getkey(), (CHANNELS, CHANNELS), float)
        u = np.asarray(jax.random.normal(getkey(), (CHANNELS, NX, NY), float))
        found = rollout(lambda u: jnp.tensordot(matrix, u, 1), u, N)
    expected = [np.tensordot(np.linalg.matrix_power(matrix, k), u, 1) for k in range(1, N + 1)]
    np.testing.assert_allclose(found, np.stack(expected), rtol=1e-12)


def test_gradients_pass_through_all_steps():
    gradient = jax.grad(lambda a: rollout(lambda u: a * u, jnp.ones((1, 2)), N)[-1].sum())(1.5)
    assert gradient == pytest.approx(2 * N * 1.5 ** (N - 1), rel=1e-5)  # d/da of 2 a^N


@pytest.mark.parametrize(("time", "new"), [(2, 1), (5, 2), (3, 4)])
def test_windows_against_a_loop_over_a_list(time, new):
    rng = np.random.default_rng(0)
    frames = rng.normal(size=(time, CHANNELS, NX, NY)).astype(np.float32)
    weights = rng.normal(size=(new * CHANNELS, time * CHANNELS)).astype(np.float32) / time
    step = lambda x: jnp.tanh(jnp.tensordot(weights, x, 1))
    found = jax.jit(lambda frames: rollout_windows(step, frames, N))(frames)
    known = list(frames)
    for _ in range(N):
        seen = np.concatenate(known[-time:])
        known += list(np.tanh(np.tensordot(weights, seen, 1)).reshape(new, CHANNELS, NX, NY))
    assert found.shape == (N * new, CHANNELS, NX, NY)
    np.testing.assert_allclose(found, np.stack(known[time:]), rtol=1e-4, atol=1e-5)  # float32, six steps


def test_windows_follow_a_linear_recurrence():
    """Each frame is the sum of the last two: Fibonacci numbers, exact in float32."""
    start = np.array([1, 1], np.float32).reshape(2, 1, 1) * np.array([1, 3], np.float32)
    found = rollout_windows(lambda x: x[:1] + x[1:], start, 10)
    np.testing.assert_array_equal(found[:, 0, 0], [2, 3, 5, 8, 13, 21, 34, 55, 89, 144])
    np.testing.assert_array_equal(found[:, 0, 1], 3 * found[:, 0, 0])


def add_the_rate(x):
    """u + nu: with nu = 1 each state is larger by 1 than the one before it."""
    return x[:1] + x[1:]


def test_a_parameter_channel_stays_as_it_is():
    u, nu = np.zeros((1, NX), np.float32), np.ones((1, NX), np.float32)
    expected = np.broadcast_to(np.array([1, 2, 3, 4], np.float32)[:, None], (4, NX))
    np.testing.assert_array_equal(rollout(add_the_rate, u, 4, constants=nu)[:, 0], expected)
    np.testing.assert_array_equal(rollout_windows(add_the_rate, u[None], 4, constants=nu)[:, 0], expected)
    batch = np.concatenate((u, nu))[None]
    predict = lambda x: np.asarray(jax.vmap(add_the_rate)(x))
    np.testing.assert_array_equal(rollout_batch(predict, batch, 4, constant_channels=1)[0], expected)
    two_frames = rollout_batch(predict, batch, 4)[0]  # without parameters the channels are frames: Fibonacci numbers
    np.testing.assert_array_equal(two_frames[:, 0], [1, 2, 3, 5])
    np.testing.assert_array_equal(batch[0, :, 0], [0, 1])


@pytest.mark.parametrize(("time", "new"), [(2, 1), (4, 2), (2, 4)])
def test_a_batch_equals_the_windows_of_each_sample(time, new):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5, time * CHANNELS + 3, NX, NY)).astype(np.float32)
    weights = rng.normal(size=(new * CHANNELS, time * CHANNELS + 3)).astype(np.float32) / time
    step = lambda x: jnp.tanh(jnp.tensordot(weights, x, 1))
    found = rollout_batch(jax.jit(jax.vmap(step)), x, N, constant_channels=3)
    for one, expected in zip(x, found, strict=True):
        frames = one[: time * CHANNELS].reshape(time, CHANNELS, NX, NY)
        alone = rollout_windows(step, frames, N, constants=one[time * CHANNELS :])
        np.testing.assert_allclose(expected.reshape(alone.shape), alone, rtol=1e-4, atol=1e-5)  # float32, six steps


@pytest.mark.parametrize(
    ("constant", "channels", "message"),
    [
        (-1, 1, "constant_channels from 0 to 2 for inputs of 3 channels, got -1"),
        (3, 1, "got 3. The other channels hold the frames"),
        (0, 2, "2 predicted channels do not continue 3 channels of frames. Give the number .* as constant_channels"),
    ],
)
def test_batches_that_do_not_fit(constant, channels, message):
    with pytest.raises(ValueError, match=message):
        rollout_batch(lambda x: x[:, :channels], np.ones((2, 3, NX)), 2, constant_channels=constant)
    with pytest.raises(ValueError, match="at least one application"):
        rollout_batch(lambda x: x, np.ones((2, 3, NX)), 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda u: rollout(lambda u: u, u[0], 0), "at least one application of the step, got n 0"),
        (lambda u: rollout_windows(lambda u: u, u, -1), "got n -1"),
        (lambda u: rollout(lambda u: u[:1], u[0], 2), r"float32 of shape \(2, 3, 4\), got float32 .*\(1, 3, 4\)"),
        (lambda u: rollout(lambda u: u > 0, u[0], 2), "got bool .* For a step that sees several frames"),
        (lambda u: rollout_windows(lambda u: u[:3], u, 2), r"\(k \* 2, 3, 4\), got float32 of shape \(3, 3, 4\)"),
        (lambda u: rollout_windows(lambda u: u[..., 1:], u, 2), r"whole frames.* got float32 of shape \(10, 3, 3\)"),
        (lambda u: rollout_windows(lambda u: u > 0, u, 2), "got bool"),
    ],
)
def test_steps_that_do_not_fit(call, message):
    with pytest.raises(ValueError, match=message):
        call(jnp.ones((5, CHANNELS, NX, NY)))


FIXED, PARAMETERS = 3, 5


def conditioned(bundle, seed=0):
    """A step that sees everything, and the same for NumPy."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(bundle, 7, FIXED)).astype(np.float32)

    def step(xp, frames, conditions):
        mean = xp.tanh(frames).mean(0)
        shift = xp.tanh(xp.tensordot(weights[:, 0], conditions.fixed, 1))[:, None]
        return 0.5 * mean[None] + shift * xp.tanh(conditions.parameters).sum() + conditions.dt * frames[-1:]

    return lambda frames, conditions: step(jnp, frames, conditions), lambda *sample: step(np, *sample)


@pytest.mark.parametrize(("history", "bundle", "n"), [(1, 1, 6), (3, 2, 7), (2, 4, 5), (2, 3, 2)])
def test_forecasts_against_a_loop_over_a_list(history, bundle, n):
    rng = np.random.default_rng(1)
    draw = lambda *shape: np.float32(rng.normal(size=(4, *shape)))
    frames = draw(history, CHANNELS, NX, NY)
    conditions = Conditions.of({"fixed": draw(FIXED, NX, NY), "parameters": draw(PARAMETERS), "dt": draw() / 3})
    step, by_numpy = conditioned(bundle)
    of = lambda i: Conditions(*(part[i] for part in conditions))
    expected = []
    for i in range(4):
        known = list(frames[i])
        while len(known) < history + n:
            known += list(by_numpy(np.stack(known[-history:]), of(i)))
        expected.append(known[history : history + n])
    found = jax.jit(jax.vmap(lambda frames, conditions: forecast(step, frames, conditions, n)))(frames, conditions)
    assert found.shape == (4, n, CHANNELS, NX, NY)
    np.testing.assert_allclose(found, np.asarray(expected), rtol=1e-4, atol=1e-5)  # float32, up to six steps
    alone = forecast(step, frames[2], of(2), n)
    np.testing.assert_allclose(alone, found[2], rtol=1e-5, atol=1e-6)
    looped = forecast_batch(jax.jit(jax.vmap(step)), frames, conditions, n)
    assert isinstance(looped, np.ndarray)
    np.testing.assert_allclose(looped, found, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("new", [1, 2, 5])
def test_frames_followed_by_new_ones_are_the_latest(new):
    frames, more = jnp.arange(3.0).reshape(3, 1, 1), jnp.arange(3.0, 3 + new).reshape(new, 1, 1)
    np.testing.assert_array_equal(followed_by(frames, more)[:, 0, 0], np.arange(new, new + 3))


@pytest.mark.parametrize(
    ("change", "n", "message"),
    [
        (lambda f: f, 0, "at least one application of the step, got n 0"),
        (lambda f: f[:, 1:], 2, r"frames like those that it gets, float32 of shape .* got float32 of shape"),
        (lambda f: f[..., 1:], 2, "but for their number"),
        (lambda f: f > 0, 2, "got bool"),
    ],
)
def test_conditioned_steps_that_do_not_fit(change, n, message):
    frames = np.ones((2, 3, CHANNELS, NX), np.float32)
    none = Conditions(frames[:, 0, :0], frames[:, 0, 0, :0], frames[:, 0, 0, 0])
    step = lambda frames, conditions: change(frames)
    with pytest.raises(ValueError, match=message):
        forecast(step, frames[0], Conditions(*(part[0] for part in none)), n)
    with pytest.raises(ValueError, match=message):
        forecast_batch(jax.vmap(step), frames, none, n)
    with pytest.raises(ValueError, match=r"maps have none \(history 0\). Apply the model once"):
        forecast(lambda *_: jnp.ones((1, CHANNELS, NX)), frames[0, :0], Conditions(*(part[0] for part in none)), 1)
