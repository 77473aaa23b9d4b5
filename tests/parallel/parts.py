"""Operators on parts of fields against whole fields, in float64 on 8 devices: python parts.py 'JSON list of cases'.

A case is [operator of `KNOWN`, name of walls, shape, parts of each axis]; for each a line of JSON is
printed with the largest relative differences of the loss, of its gradients in the input and in the weights, and of the
weights after 3 steps of training; or with the message of the refusal.
"""

import dataclasses
import functools
import json
import pathlib
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import PartitionSpec

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from helpers import OPERATORS, OperatorCase

from sciml import cut, losses, metrics, nn, operators, parallel, train
from sciml.grid import Dirichlet, Grid, Neumann, Periodic

WALLS = {
    "periodic": Periodic(),
    "dirichlet": Dirichlet(),
    "neumann": Neumann(),
    "mixed": (Neumann(0.5), Dirichlet(0.5)),
}
DEVICES = 8
CORRECTIONS = operators.MgNOConfig(cycle=dataclasses.replace(nn.CORRECTION, bias=True))
STEPS = ((1, 0), (2, 0), (1, 0), (2, 0))
KNOWN = OPERATORS | {  # cycles of other forms
    "corrections": OperatorCase(
        lambda into, out, grid, key: operators.MgNO(
            into, out, grid=grid, width=4, depth=1, levels=STEPS, config=CORRECTIONS, key=key
        ),
        False,
        0,
    ),
    "both ways": OperatorCase(
        lambda into, out, grid, key: operators.MgNO(
            into, out, grid=grid, width=4, depth=1, levels=((1, 1), (1, 1), (1, 1)), key=key
        ),
        False,
        0,
    ),
}


def difference(found, expected) -> float:
    """Largest difference of two trees of arrays, relative to the largest value of each array.

    Arrays whose values are smaller than 1e-4 of the largest of all are sums that cancel: that is their scale.
    """
    largest = lambda array: float(jnp.max(jnp.abs(array)))
    pairs = [one for one in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True) if one[0].size]
    least = 1e-4 * max(largest(b) for _, b in pairs)
    return max(largest(a - b) / max(largest(b), least, 1e-300) for a, b in pairs)


def errors(name: str, walls: str, shape: list[int], parts: list[int]) -> dict:
    """The differences of a case."""
    grid = Grid(tuple(shape), boundary=(WALLS[walls],) * len(shape))
    samples = 2 * DEVICES // int(np.prod(parts))
    placement = parallel.Layout(space=tuple(parts)).on(samples, grid.shape)
    mesh = placement.mesh
    assert mesh.size == DEVICES
    double = lambda leaf: leaf.astype(jnp.float64) if eqx.is_inexact_array(leaf) else leaf
    model = jax.tree.map(double, KNOWN[name].make(2, 1, grid, jax.random.key(0)))
    drawn = np.random.default_rng(0).normal(size=(samples, 3, *shape))
    batch = drawn[:, :2], drawn[:, 2:]
    l2, h1 = metrics.relative_l2, functools.partial(metrics.relative_h1, grid=grid)
    loss = losses.supervised(lambda u, v: l2(u, v) + h1(u, v))
    trainable, rest = nn.partition(model)
    of = lambda own, batch: loss(eqx.combine(own, rest), batch, None)[0]
    spec = placement.of_fields(batch, cut.BATCH)

    def on_a_part(own, batch):
        value, slopes = jax.value_and_grad(lambda batch: of(own, batch))(batch)
        return jax.lax.pmean(value, cut.BATCH), jax.tree.map(lambda leaf: leaf / mesh.shape[cut.BATCH], slopes)

    on_parts = jax.shard_map(on_a_part, mesh=mesh, in_specs=(PartitionSpec(), spec), out_specs=(PartitionSpec(), spec))
    parted = jax.jit(on_parts)(trainable, batch)
    whole = jax.jit(jax.value_and_grad(of, argnums=1))(trainable, batch)
    optimiser = optax.chain(optax.clip_by_global_norm(0.5), optax.sgd(1e-2, momentum=0.9), train.ema(0.9))
    items = jax.tree.map(lambda array: np.stack([array] * 1), batch)
    steps = []
    for one in (placement, None):
        step, now = train.make_step(loss, optimiser, placement=one), train.place(train.init(model, optimiser), one)
        for _ in range(3):
            now, logs = step(now, None, items)
        steps.append((eqx.filter(now, eqx.is_inexact_array), logs["gradient_norm"]))
    return {
        "value": difference(parted[0], whole[0]),
        "input gradient": difference(parted[1], whole[1]),
        "gradient norm": difference(steps[0][1], steps[1][1]),
        "three steps": difference(steps[0][0], steps[1][0]),
    }


def main() -> None:
    for case in json.loads(sys.argv[1]):
        try:
            found = errors(*case)
        except ValueError as error:
            found = {"refused": str(error)}
        print(json.dumps({"case": case, **found}), flush=True)


if __name__ == "__main__":
    main()
