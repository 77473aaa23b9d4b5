"""Trains the preconditioner of benchmarks/preconditioners.py on small rough media.

    python benchmarks/preconditioner_training.py

64x64 interior nodes, two materials by the sign of a Gaussian field (`pdes.neumann_field`, alpha 1.5 or 2, tau 5 to
40), contrasts log-uniform from 4 to 1e6. The loss is the mean of log ||u_k - u||_A / ||u||_A and log ||r_k|| / ||f||
after 8 steps of conjugate gradients, differentiated through them; u is solved beforehand with the untrained cycle.
Writes the weights and what the training did to runs/preconditioner.
"""

import argparse
import json
import pathlib
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from sciml.pdes import neumann_field
from sciml.preconditioners import SymmetricCycle, conjugate_gradients, flux_conductances

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "runs" / "preconditioner"
SIZE, MEDIA, BATCH = 64, 128, 8


def medium(key, size, contrast, *, alpha, tau):
    """A coefficient at `size` interior nodes along each axis and on the walls: 1, or the contrast."""
    field = neumann_field(key, (size + 2, size + 2), alpha=alpha, tau=tau)
    return jnp.where(field >= 0, contrast, 1.0)


def training_media(key, number):
    """Coefficients and right-hand sides, stacked."""
    keys = jax.random.split(key, (number, 2))
    draws = jax.random.uniform(jax.random.fold_in(key, 1), (2, number))
    make = jax.jit(
        lambda key, contrast, alpha, tau: medium(key, SIZE, contrast, alpha=alpha, tau=tau), static_argnums=(2, 3)
    )
    media = []
    for i in range(number):
        contrast = 4 * (1e6 / 4) ** draws[0, i]
        tau = (5.0, 10.0, 20.0, 40.0)[int(4 * draws[1, i])]
        media.append(make(keys[i, 0], contrast, (1.5, 2.0)[i % 2], tau))
    return jnp.stack(media), jax.vmap(lambda key: jax.random.normal(key, (SIZE, SIZE)))(keys[:, 1])


def log_error(model, a, b, solution, steps):
    """Mean log of A-norm error and residual, both relative, after some steps of conjugate gradients from zero."""
    conductances = flux_conductances(a)
    precondition, apply = model(conductances), conductances.product

    def advance(carry, _):
        u, r, p, rho = carry
        z = precondition(r)
        new = jnp.sum(r * z)
        p = z + new / rho * p
        q = apply(p)
        length = new / jnp.sum(p * q)
        return (u + length * p, r - length * q, p, new), None

    start = (jnp.zeros_like(b), b, jnp.zeros_like(b), jnp.ones((), b.dtype))
    (u, r, *_), _ = jax.lax.scan(advance, start, length=steps)  # a loop: compiled once
    error = u - solution
    energy = jnp.sum(error * apply(error)) / jnp.sum(solution * b)
    return jnp.log(energy * jnp.sum(r**2) / jnp.sum(b**2)) / 4


def trained(*, seed=0, steps=240, lr=5e-3, cg_steps=8, width=16):
    """The trained model, the untrained one, and the losses."""
    key = jax.random.key(seed)
    model = untrained = SymmetricCycle(width=width, key=jax.random.fold_in(key, 0))
    media, loads = training_media(jax.random.fold_in(key, 1), MEDIA)
    solve = eqx.filter_jit(lambda a, b: conjugate_gradients(c := flux_conductances(a), b, untrained(c), 1e-10, 400)[0])
    solutions = jnp.stack([solve(a, b) for a, b in zip(media, loads, strict=True)])
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(lr, steps)))
    state = optimiser.init(eqx.filter(model, eqx.is_inexact_array))

    @eqx.filter_jit
    def step(model, state, chosen):
        def loss(model):
            one = lambda i: log_error(model, media[i], loads[i], solutions[i], cg_steps)
            return jnp.mean(jax.lax.map(jax.checkpoint(one), chosen))

        value, gradient = eqx.filter_value_and_grad(loss)(model)
        change, state = optimiser.update(gradient, state)
        return eqx.apply_updates(model, change), state, value

    losses = []
    for k in range(steps):
        chosen = jax.random.choice(jax.random.fold_in(key, 2 + k), MEDIA, (BATCH,), replace=False)
        model, state, value = step(model, state, chosen)
        losses.append(float(value))
        if k % 10 == 0:
            print(k, f"{sum(losses[-10:]) / len(losses[-10:]):.3f}", flush=True)
    return model, untrained, losses


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=240)
    options = parser.parse_args()
    begin = time.perf_counter()
    model, _, losses = trained(seed=options.seed, steps=options.steps)
    FOLDER.mkdir(parents=True, exist_ok=True)
    eqx.tree_serialise_leaves(FOLDER / "weights.eqx", model)
    report = {"seed": options.seed, "steps": options.steps, "seconds": time.perf_counter() - begin, "losses": losses}
    (FOLDER / "training.json").write_text(json.dumps(report) + "\n")


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    main()
