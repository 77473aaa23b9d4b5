import equinox as eqx
import jax
import numpy as np
import optax
import pytest

from sciml import train

RECIPES = {
    "darcy": {"peak": 5e-4, "epochs": 500, "warmup": 0.2, "final_divide": 100.0},
    "ns2": {"peak": 1e-3, "epochs": 500, "warmup": 0.1, "final_divide": 50.0},
    "helm": {"peak": 3e-4, "epochs": 100, "warmup": 0.2, "final_divide": 100.0},
}


@pytest.mark.parametrize("name", RECIPES)
def test_equals_the_published_schedules(name, reference):
    arrays = np.load(reference / "mgno" / "losses_and_schedules.npz")
    recipe = RECIPES[name]
    cycle = {"epochs": recipe["epochs"], "warmup": recipe["warmup"], "steps_per_epoch": 3}
    start = recipe["peak"] / 2
    rate = train.one_cycle(start, recipe["peak"], start / recipe["final_divide"], **cycle)
    beta1 = train.one_cycle(0.95, 0.85, 0.95, **cycle)
    steps = np.arange(3 * recipe["epochs"])
    with jax.enable_x64(True):
        np.testing.assert_allclose(rate(steps), np.repeat(arrays[f"{name}_lr"], 3), rtol=1e-12)
        np.testing.assert_allclose(beta1(steps), np.repeat(arrays[f"{name}_beta1"], 3), rtol=1e-12)


def test_the_last_value_stays():
    rate = train.one_cycle(1.0, 2.0, 0.5, epochs=10, warmup=0.3)
    assert float(rate(2)) == 2.0
    assert float(rate(9)) == float(rate(1000)) == 0.5


@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.1, 1.0])
def test_a_cycle_without_room_for_its_peak_is_refused(warmup):
    with pytest.raises(ValueError, match=r"must be after the first epoch, 0, and before the last, 9"):
        train.one_cycle(1.0, 2.0, 0.5, epochs=10, warmup=warmup)


def test_clipped_adamw_follows_its_cycle_and_bounds_the_first_step():
    optimiser = train.clipped_adamw(1e-2, steps=100, weight_decay=0.0)
    parameters = {"w": jax.numpy.ones(4)}
    state = optimiser.init(parameters)
    rates = []
    for _ in range(101):
        _, state = optimiser.update({"w": jax.numpy.full(4, 1e6)}, state, parameters)
        rates.append(float(optax.tree_utils.tree_get(state, "learning_rate")))
    assert np.argmax(rates) == 20  # the peak, after a fifth of the steps
    np.testing.assert_allclose([rates[0], rates[20], rates[100]], [1e-3, 1e-2, 1e-5], rtol=1e-5)
    _, first = optimiser.update({"w": jax.numpy.full(4, 1e6)}, optimiser.init(parameters), parameters)
    moment = first[1].mu["w"]  # (1 - beta1) times a gradient of norm 0.1
    assert float(jax.numpy.linalg.norm(moment)) == pytest.approx(0.1 * 0.1, rel=1e-5)


@pytest.mark.parametrize("steps", [1, 4, 20])
def test_clipped_adamw_is_that_of_optax(steps):
    rate = optax.cosine_onecycle_schedule(steps, 1e-2, pct_start=0.2, div_factor=10.0, final_div_factor=100.0)
    theirs = optax.chain(optax.clip_by_global_norm(0.1), optax.adamw(rate, b2=0.98, weight_decay=1e-4))
    found = []
    for optimiser in (train.clipped_adamw(1e-2, steps=steps), theirs):
        moved = {"w": jax.numpy.arange(1.0, 5.0)}
        state, update = optimiser.init(moved), jax.jit(optimiser.update)
        for k in range(steps):
            updates, state = update({"w": jax.numpy.cos(k + jax.numpy.arange(4.0))}, state, moved)
            moved = optax.apply_updates(moved, updates)
        found.append(moved["w"])
    np.testing.assert_allclose(*found, rtol=1e-6)


@pytest.mark.parametrize("name", train.OPTIMISERS)
def test_runs_of_other_rates_lengths_and_seeds_share_a_compiled_step(name):
    model = eqx.nn.Linear(4, 4, key=jax.random.key(0))
    noisy = lambda model, batch, keys: (model(batch + jax.random.normal(keys[0], batch.shape)).sum(), {})

    def program(peak, steps, seed):
        optimiser = train.OPTIMISERS[name](peak, steps=steps)
        step = train.make_step(noisy, optimiser, seed=seed)
        return step.lower(train.init(model, optimiser), None, jax.numpy.ones((1, 4)))[0].as_text()

    assert program(1e-3, 10, 0) == program(1e-2, 2000, 7)
