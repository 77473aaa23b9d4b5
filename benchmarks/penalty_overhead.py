"""What does measuring the solver's steps cost, beside the plain solve?

    python benchmarks/penalty_overhead.py [--rounds 12] [--starts 4]

Solves of one network (one hidden layer, tanh) as a joint batch by Tsit5, float32, tolerance 1e-5: `forward` is the
solve alone, `step` the gradient of the mean square of its last state, plus the penalty, in the weights, each `repeat`
times in a row. The reference is plain `diffrax.diffeqsolve`; processes take turns and are started anew (see timer.py).
The solves over one unit of time take 3 or 4 steps, of which the local penalty takes one again, the long one as many as
`steps` tells. Writes results/penalty_overhead.json.
"""

import argparse
import os
import pathlib

import timer
from timer import Contender

RESULTS = pathlib.Path(__file__).resolve().parent / "results" / "penalty_overhead.json"
ENV = {"EQX_ON_ERROR": "nan", "JAX_PLATFORMS": "cpu"}
PENALTIES = ("plain", "error", "error2", "stiffness", "all three", "local")
CASES = {
    "2 states, batch 1": {"size": 2, "hidden": 32, "batch": 1, "repeat": 50},
    "64 states, batch 128": {"size": 64, "hidden": 100, "batch": 128, "repeat": 10},
    "784 states, batch 128": {"size": 784, "hidden": 100, "batch": 128, "repeat": 4},
    "64 states, batch 128, long": {"size": 64, "hidden": 100, "batch": 128, "repeat": 2, "end": 8.0},
}


def contender(settings: dict) -> dict:
    """The solve with one penalty."""
    import diffrax
    import jax
    import jax.numpy as jnp
    import numpy as np
    import solver_problems as problems

    from sciml import nde

    error2 = nde.ErrorPenalty(nde.LocalError(power=2, dt_power=0))
    penalty = {
        "plain": None,
        "error": nde.ErrorPenalty(),
        "error2": error2,
        "stiffness": nde.StiffnessPenalty(),
        "all three": nde.ErrorPenalty() + error2 + nde.StiffnessPenalty(),
        "local": nde.LocalErrorPenalty(),
    }[settings["penalty"]]
    weights = tuple(map(jnp.asarray, problems.weights(settings)))
    y = jnp.asarray(problems.starts(settings))
    controller = diffrax.PIDController(rtol=1e-5, atol=1e-5)

    def field(t, y, weights):
        first, shift, second, last = weights
        hidden = jnp.tanh(y @ first + jnp.broadcast_to(shift, (*y.shape[:-1], shift.size)))
        return hidden @ second + jnp.broadcast_to(last, y.shape)

    def problem(weights, y):
        return diffrax.ODETerm(field), diffrax.Tsit5(), 0.0, settings.get("end", 1.0), 0.05, y, weights

    def solve(weights, y, key):
        if penalty is None:
            return diffrax.diffeqsolve(*problem(weights, y), stepsize_controller=controller).ys[-1], 0.0
        sol, value = nde.diffeqsolve(*problem(weights, y), regulariser=penalty, key=key, stepsize_controller=controller)
        return sol.ys[-1], value

    def loss(weights, y, key):
        last, value = solve(weights, y, key)
        return jnp.mean(last**2) + 0.01 * value

    key = jax.random.key(0)
    run, gradient = jax.jit(solve), jax.jit(jax.grad(loss))

    def timed(function):
        def call():
            for _ in range(settings["repeat"]):
                jax.block_until_ready(function(weights, y, key))

        return call

    steps = int(diffrax.diffeqsolve(*problem(weights, y), stepsize_controller=controller).stats["num_steps"])
    return {
        "forward": timed(run),
        "step": timed(gradient),
        "outputs": np.asarray(run(weights, y, key)[0]),
        "info": {
            "steps": steps,
            "jax": jax.__version__,
            "device": jax.devices()[0].device_kind,
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12, help="timed calls of each process (default %(default)s)")
    parser.add_argument("--starts", type=int, default=4, help="processes of each penalty (default %(default)s)")
    parser.add_argument("--cores", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    result = {
        "machine": timer.machine(arguments.cores),
        "rounds": arguments.rounds,
        "starts": arguments.starts,
        "cases": {},
    }
    for name, sizes in CASES.items():
        contenders = [
            Contender(one, "penalty_overhead:contender", env=ENV, settings={"penalty": one}) for one in PENALTIES
        ]
        rows = timer.compare(contenders, {"seed": 0, **sizes}, arguments.rounds, arguments.cores, arguments.starts)
        result["cases"][name] = {"settings": sizes, "contenders": rows}
        print(name)
        for one, row in rows.items():
            cells = [
                f"{target} {row[target]['seconds'] * 1e3:7.2f} ms, ratio {row[target]['ratio']:.3f} "
                f"({row[target]['ratio_quartiles'][0]:.2f}-{row[target]['ratio_quartiles'][1]:.2f})"
                for target in ("forward", "step")
            ]
            print(f"  {one:12}", "; ".join(cells), f"error {row.get('max_error', 0):.1e}", flush=True)
        timer.write(RESULTS, result)


if __name__ == "__main__":
    main()
