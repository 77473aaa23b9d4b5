"""Our side of gpu.py: operators, PROSE, neural ODEs and the rates of the device, with XLA's account of each program.

Precision: float32 and tf32 by the environment variable JAX_DEFAULT_MATMUL_PRECISION, which gpu.py sets; bf16 by the
library's own wrappers.
"""

import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import prose_decoding
import prose_problems
import solver_problems
import solvers
import train_step
from repeated import repeated

MIB = 2**20


def fno(settings: dict) -> dict:
    """FNO with the weights of its PyTorch twin."""
    return operator(train_step.fno_model(settings), settings)


def mgno(settings: dict) -> dict:
    """MgNO with the weights of its PyTorch twin."""
    return operator(train_step.mgno_model(settings), settings)


def operator(model: Any, settings: dict) -> dict:
    """An operator that maps fields to fields, trained on the relative L2 error."""
    from sciml.operators import InPrecision

    if settings["precision"] == "bf16":
        model = InPrecision(model, jnp.bfloat16)
    arrays, static = eqx.partition(model, eqx.is_inexact_array)

    def apply(arrays, x, y):
        return jax.vmap(eqx.combine(arrays, static))(x)

    def loss(arrays, x, y):
        norm = lambda u: jnp.sqrt(jnp.sum(u * u, axis=(1, 2, 3)))
        return jnp.mean(norm(apply(arrays, x, y) - y) / norm(y))

    return contender(apply, loss, arrays, train_step.fields(settings), settings)


def prose(settings: dict) -> dict:
    """PROSE's two losses; `forward` is both of them."""
    from sciml.nn import partition
    from sciml.prose import Sample, prose_loss
    from sciml.prose._model.states import in_precision

    count, given = settings["batch"], prose_problems.batch(settings)
    numbers = np.zeros(count, np.int32)
    sample = Sample(
        **{name: jnp.asarray(array) for name, array in given.items()},
        components=jnp.ones((count, settings["components"]), bool),
        equation_mask=jnp.ones(given["equation"].shape, bool),
        system=numbers,
        family=numbers,
        index=numbers,
    )
    arrays, static = partition(prose_decoding._model(settings))
    n, dtype = settings["data"], jnp.bfloat16 if settings["precision"] == "bf16" else jnp.float32
    both = prose_loss(history=n, dtype=dtype)

    def outputs(arrays, one):
        model, given = in_precision(eqx.combine(arrays, static), dtype), (one.times[:n], one.states[:n], one.times[n:])
        return model(*given, one.tokens, one.equation[:-1], tokens_mask=one.tokens_mask)

    loss = lambda arrays, sample: both(eqx.combine(arrays, static), sample, jax.random.key(0))[0]
    parts = jax.jit(jax.vmap(outputs, in_axes=(None, 0)))(arrays, sample)
    values = np.concatenate([np.asarray(part, np.float32).ravel() for part in parts])
    return {**contender(loss, loss, arrays, (sample,), settings), "outputs": values}


def ode(settings: dict) -> dict:
    """A neural ODE: a batch solved as one equation (`steps` joint), or each sample with its own steps (own)."""
    import diffrax

    from sciml import nde

    ts, field = solvers._times(settings), solvers._field(settings)
    controller = diffrax.PIDController(rtol=settings["tolerance"], atol=settings["tolerance"])
    each = nde.Solve(diffrax.Dopri5(), controller, max_steps=512)
    batch_solve = nde.Batched(each) if settings["steps"] == "own" else nde.Jointly(each)
    solve = lambda weights, y, target: batch_solve(field, y, ts, weights)[0]
    loss = lambda weights, y, target: jnp.mean((solve(weights, y, target)[-1] - target) ** 2)
    batch = (solver_problems.starts(settings), solver_problems.starts({**settings, "seed": settings["seed"] + 7}))
    return contender(solve, loss, solvers._weights(settings), batch, settings)


def rates(settings: dict) -> dict:
    """Products of two square matrices of `size`, and a sum that reads and writes a vector of `length` numbers."""
    size, length = settings["size"], settings["length"]
    a, b = (jax.random.normal(key, (size, size)) for key in jax.random.split(jax.random.key(0)))
    half, vector = (a.astype(jnp.bfloat16), b.astype(jnp.bfloat16)), jnp.zeros(length)
    product = lambda precision: jax.jit(lambda a, b: jnp.matmul(a, b, precision=precision))
    full, tf32, default, add = product("highest"), product("tensorfloat32"), product(None), jax.jit(lambda x: x + 1)
    calls = {
        "float32": lambda: full(a, b),
        "tf32": lambda: tf32(a, b),
        "bf16": lambda: default(*half),
        "bandwidth": lambda: add(vector),
    }
    info = {"jax": jax.__version__, "device": jax.devices()[0].device_kind}
    return {**repeated(calls, jax.block_until_ready, settings["turn"], info), "info": info}


def contender(
    apply: Callable[..., Any], loss: Callable[..., Any], arrays: Any, batch: tuple, settings: dict
) -> dict[str, Any]:
    """Forward and training step (Adam, donated state), compiled ahead; info has compile time, memory and cost."""
    optimiser = optax.adam(1e-3)
    arrays, batch = jax.device_put((arrays, batch))

    def update(state, batch):
        arrays, moments = state
        value, gradient = jax.value_and_grad(loss)(arrays, *batch)
        change, moments = optimiser.update(gradient, moments, arrays)
        return (optax.apply_updates(arrays, change), moments), value

    state = [(jax.tree.map(jnp.copy, arrays), optimiser.init(arrays))]
    info = {
        "jax": jax.__version__,
        "device": jax.devices()[0].device_kind,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(arrays)),
        "compile_seconds": {},
        "cost": {},
    }
    forward = compiled("forward", jax.jit(lambda arrays, batch: apply(arrays, *batch)), (arrays, batch), info)
    train = compiled("step", jax.jit(update, donate_argnums=0), (state[0], batch), info)

    def step():
        state[0], value = train(state[0], batch)
        return value

    calls = {"forward": lambda: forward(arrays, batch), "step": step}
    timed = repeated(calls, jax.block_until_ready, settings["turn"], info)
    info["peak_device_memory_mib"] = peak_memory()
    return {**timed, "outputs": np.asarray(forward(arrays, batch), np.float32), "info": info}


def compiled(name: str, function: Any, arguments: tuple, info: dict) -> Any:
    """The compiled function; its seconds and cost are added to `info`."""
    start = time.perf_counter()
    lowered = function.lower(*arguments)
    program = lowered.compile()
    info["compile_seconds"][name] = time.perf_counter() - start
    info["cost"][name] = cost(lowered, program)
    return program


def cost(lowered: Any, program: Any) -> dict[str, float | None]:
    """What XLA says of a program; None where this backend does not say.

    `flops` are those before optimisation, since the analysis does not look into the calls of cuBLAS and cuDNN that
    optimisation makes; `bytes` are those that the fused operations read and write. Both count the body of each of the
    `loops` once.
    """
    before, after = _said(lowered.cost_analysis), _said(program.cost_analysis)
    memory, text = _said(program.memory_analysis), _said(lowered.as_text)
    entry = lambda found, name: found.get(name) if isinstance(found, dict) else None
    return {
        "flops": entry(before, "flops"),
        "flops_compiled": entry(after, "flops"),
        "bytes": entry(after, "bytes accessed"),
        "argument_bytes": getattr(memory, "argument_size_in_bytes", None),
        "output_bytes": getattr(memory, "output_size_in_bytes", None),
        "temporary_bytes": getattr(memory, "temp_size_in_bytes", None),
        "loops": None if text is None else text.count("stablehlo.while"),
    }


def peak_memory() -> float | None:
    """MiB of device memory that this process had in use at most; None where the device does not say."""
    found = _said(jax.devices()[0].memory_stats) or {}
    return found["peak_bytes_in_use"] / MIB if "peak_bytes_in_use" in found else None


def _said(question: Callable[[], Any]) -> Any:
    try:
        answer = question()
    except Exception:  # backends raise errors of many kinds for what they do not implement
        return None
    return answer[0] if isinstance(answer, list) and answer else answer
