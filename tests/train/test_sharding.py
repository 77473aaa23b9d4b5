import os
import subprocess
import sys
import textwrap

PROGRAM = """
import warnings; warnings.simplefilter("error")
import dataclasses
import diffrax, equinox as eqx, jax, jax.numpy as jnp, numpy as np, optax
from sciml import losses, metrics, nn, operators, parallel, train
from sciml.grid import Grid
from sciml.nn import partition

assert jax.local_device_count() == 4
BATCH, IN, OUT, STEPS = 12, 3, 2, 5
rng = np.random.default_rng(0)
x = rng.normal(size=(50, IN)).astype(np.float32)

class Data:
    def __len__(self):
        return 50
    def __getitem__(self, rows):
        return x[rows], np.sin(x[rows, :OUT])

def loss(model, batch, keys):
    noise = 0.1 * jax.vmap(lambda key: jax.random.normal(key, (OUT,)))(keys)
    error = jax.vmap(model)(batch[0]) - batch[1] + noise
    return jnp.mean(error**2), {"absolute": jnp.mean(jnp.abs(error)), "noise": noise.mean(), "whole": jnp.asarray(7)}

def result(placement, make, dispatch, **more):
    optimiser = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(1e-2), train.ema(0.9))
    batches = make(Data(), lambda k: np.random.default_rng(k).integers(0, 50, BATCH))
    state = train.place(train.init(eqx.nn.MLP(IN, OUT, 8, 1, key=jax.random.key(0)), optimiser), placement)
    step = train.make_step(loss, optimiser, fetch=batches.fetch, placement=placement, **more)
    logs = []
    hook = train.every(STEPS, lambda event: logs.append(event.logs))
    state = train.fit(state, step, batches, steps=STEPS, hooks=[hook], dispatch=dispatch)
    return eqx.filter((state, logs), eqx.is_array), state

placement = parallel.Layout().on(BATCH)
assert [parallel.Layout().on(size).mesh.size for size in (12, 50, 7, 3, 1)] == [4, 2, 1, 3, 1]
alone, _ = result(None, train.resident, 1)
for make, dispatch in ((lambda *a: train.resident(*a, placement=placement), 1), (train.streamed, 5)):
    shared, state = result(placement, make, dispatch)
    assert all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(eqx.filter(state, eqx.is_array)))
    for one, other in zip(jax.tree.leaves(alone), jax.tree.leaves(shared), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-6)  # means of 4 parts round differently, 5 Adam steps
arrays = jax.device_put(eqx.filter(state.model, eqx.is_array), jax.devices()[0])
expected = jax.vmap(eqx.combine(arrays, state.model))(x)
np.testing.assert_allclose(train.predict(state.model, x, size=20), expected, rtol=1e-5, atol=1e-6)

# Parameters and optimiser state in parts.
parts = parallel.Layout(state=parallel.Cut(smallest=64)).on(BATCH)
shared, state = result(parts, lambda *a: train.resident(*a, placement=parts), 1)
is_cut = [not leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(eqx.filter(state, eqx.is_array))]
assert any(is_cut) and not all(is_cut)
for one, other in zip(jax.tree.leaves(alone), jax.tree.leaves(shared), strict=True):
    np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-6)
np.testing.assert_allclose(train.predict(state.model, x, size=20), expected, rtol=1e-5, atol=1e-5)

# Parts of a batch one after another: each device has 3 samples, and the loss still draws what it drew.
def check_like_alone(shared):
    for one, other in zip(jax.tree.leaves(alone), jax.tree.leaves(shared), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-6)

by_xla = dataclasses.replace(parts, automatic=True)
check_like_alone(result(None, train.resident, 1, accumulate=4)[0])
check_like_alone(result(parts, lambda *a: train.resident(*a, placement=parts), 1, accumulate=3)[0])
try:
    result(placement, lambda *a: train.resident(*a, placement=placement), 1, accumulate=2)
except ValueError as error:
    assert "of samples that 2 parts (accumulate) divide, got the leading axes (3,) on a device" in str(error), error
else:
    raise AssertionError("3 samples were halved")

# What XLA cuts: the state, batches, a joint solve by diffrax's own adjoint, and fields of what needs whole ones.
shared, state = result(by_xla, lambda *a: train.resident(*a, placement=by_xla), 1, accumulate=3)
check_like_alone(shared)
assert [not leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(eqx.filter(state, eqx.is_array))] == is_cut

def joint(model, batch, keys):
    field = diffrax.ODETerm(lambda t, y, _: jnp.tanh(jax.vmap(model)(y)))
    control = diffrax.PIDController(rtol=1e-3, atol=1e-3)
    sol = diffrax.diffeqsolve(field, diffrax.Tsit5(), 0.0, 1.0, 0.1, batch, stepsize_controller=control)
    return jnp.mean(sol.ys**2), {"steps": sol.stats["num_steps"]}

def trained(model, loss, batch, placement):
    state = train.place(train.init(model, optax.adam(1e-2)), placement)
    step = train.make_step(loss, optax.adam(1e-2), placement=placement)
    for _ in range(3):
        state, logs = step(state, None, batch[None])
    return state.model, jax.tree.leaves((eqx.filter(state, eqx.is_array), logs))

grid = Grid((16, 6))
fields = rng.normal(size=(4, 1, *grid.shape)).astype(np.float32)
squares = lambda model, batch, keys: (jnp.mean((jax.vmap(model)(batch) - batch) ** 2), {})
slicing = operators.Slicing(heads=2, slices=5)
attends = operators.Transolver(1, 1, grid=grid, width=8, depth=1, slicing=slicing, key=jax.random.key(0))
in_parts = dataclasses.replace(parallel.Layout(space=(2,)).on(4, grid.shape), automatic=True)
for model, loss, batch, placed in (
    (eqx.nn.Linear(IN, IN, key=jax.random.key(0)), joint, x[:BATCH], dataclasses.replace(placement, automatic=True)),
    (attends, squares, fields, in_parts),
):
    (_, expected), (model, found) = (trained(model, loss, batch, one) for one in (None, placed))
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-5)
with train.predicting_on(in_parts):
    plain = jax.device_put(eqx.filter(model, eqx.is_array), jax.devices()[0])
    expected = jax.vmap(eqx.combine(plain, model))(fields)
    np.testing.assert_allclose(train.predict(model, fields, size=3), expected, rtol=1e-4, atol=1e-5)

# Fields in parts: predictions, and a loss that would be a number of each part.
fields = rng.normal(size=(5, 1, *grid.shape)).astype(np.float32)
network = operators.FNO(1, 1, modes=(4, 4), width=4, depth=1, grid=grid, key=jax.random.key(0))
network = operators.Normalised(network, operators.per_point(fields), operators.per_channel(fields))
on_parts = parallel.Layout(space=(2,)).on(4, grid.shape)
with train.predicting_on(on_parts):
    np.testing.assert_allclose(train.predict(network, fields, size=3), jax.vmap(network)(fields), rtol=1e-4, atol=1e-5)
wrong = lambda model, batch, keys: (jnp.mean((jax.vmap(model)(batch) - batch) ** 2), {})
try:
    train.make_step(wrong, optax.sgd(0.1), placement=on_parts)(
        train.place(train.init(network, optax.sgd(0.1)), on_parts), None, fields[None, :4]
    )
except ValueError as error:
    assert "Expected the loss of whole fields, got one of each part" in str(error), error
else:
    raise AssertionError("a loss of parts was taken for one of whole fields")

# An optimiser that searches a line asks for the loss of the whole batch.
def found(placement):
    state = train.place(train.init(eqx.nn.Linear(IN, OUT, key=jax.random.key(0)), optax.lbfgs()), placement)
    square = lambda model, batch, keys: (jnp.mean((jax.vmap(model)(batch) - batch[:, :OUT]) ** 2), {})
    return train.make_step(square, optax.lbfgs(), placement=placement)(state, None, x[None, :BATCH])
both = (jax.tree.leaves(eqx.filter(found(one), eqx.is_array)) for one in (None, placement))
for one, other in zip(*both, strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)

# Muon iterates a part of the matrices on each device: 5 of one shape, 1 of another, and what is left to Adam.
muon, sizes = train.scale_by_muon(), [(8, 12), (12, 8), (8, 12), (8, 12), (8, 12), (5, 5), (3, 9)]
params = partition([nn.Dense(*size, key=jax.random.key(i)) for i, size in enumerate(sizes)])[0]
gradient = jax.tree.map(lambda leaf: jax.random.normal(jax.random.key(leaf.size), leaf.shape), params)
update = lambda gradient, **more: muon.update(gradient, muon.init(params), params, **more)[0]
several = lambda gradient: update(gradient, mesh=placement.mesh)
for one, other in zip(*map(jax.tree.leaves, (jax.jit(update)(gradient), jax.jit(several)(gradient))), strict=True):
    # Sums in another order; the iterations stretch small singular values, and rounding with them, up to 3.4445^4 times.
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)

# Members of an ensemble, with shares of a batch and with parts of fields.
make = lambda seed: operators.FNO(1, 1, modes=(4, 4), width=4, depth=1, grid=grid, key=jax.random.key(seed))
optimiser, x = train.each_member(train.muon(1e-2, steps=3), 2), fields[:4]
batch = (x[None], np.roll(x, 1, axis=2)[None])
ends = []
for placed in (None, parallel.Layout().on(4), on_parts):
    members = operators.ensemble_of([make(0), make(1)])
    state = train.place(train.init(members, optimiser), placed)
    step = train.make_step(losses.of_members(losses.supervised(metrics.relative_l2)), optimiser, placement=placed)
    for _ in range(3):
        state, logs = step(state, None, batch)
    ends.append(jax.tree.leaves((eqx.filter(state.model, eqx.is_array), logs)))
for one, *others in zip(*ends, strict=True):
    for other in others:
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)  # as for Muon above, three times
"""


def test_four_devices_train_like_one():
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "4"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, textwrap.indent(done.stderr[-3000:], "    ")
