"""Are equations written, and PROSE trained, faster than in PyTorch, and what do the cache, the grammar and a beam cost?

    python benchmarks/prose_decoding.py                          all cases, both sides in this interpreter
    python benchmarks/prose_decoding.py --case "half size, 64" --rounds 10
    python benchmarks/prose_decoding.py --peer-python PATH       PyTorch lives in another environment

Equal weights, equal inputs, float32. `decode` writes `length` tokens for each sample of a batch from what the encoders
made of it; recomputation goes through all tokens so far in each step, as the published code does, the cache through the
last one alone. Random weights never end an equation, except under the grammar, whose rate counts its own tokens; the
error tells how far the tokens are from those of the first contender, 0 if they are the same. `forward` is both
losses, `step` their gradient and Adam as well. Contenders run in processes of their own, in turn (see timer.py);
ratios are to the first one. Needs the extra `peers`; a peer that cannot be imported is reported as not measured.
"""

import pathlib

import timer
from timer import Case, Contender

RESULTS = pathlib.Path(__file__).resolve().parent / "results" / "prose_decoding.json"
OURS = timer.xla_flags()
STACKS = "data_encoder", "text_encoder", "fusion", "data_decoder", "text_decoder"
COMMON = {
    "seed": 0,
    "components": 3,
    "vocabulary": 1072,
    "positions": 512,
    "data": 64,
    "guess": 48,
    "length": 64,
    "heads": 8,
}
PUBLISHED = {**COMMON, "width": 512, "hidden": 2048, "layers": dict(zip(STACKS, (2, 4, 8, 8, 8), strict=True))}
HALF = {**COMMON, "width": 256, "hidden": 1024, "layers": dict(zip(STACKS, (1, 2, 4, 4, 4), strict=True))}
TINY = {**COMMON, "width": 16, "hidden": 32, "layers": dict.fromkeys(STACKS, 1), "length": 6}


def cases(peer: str) -> dict[str, Case]:
    """The table."""
    decode = (
        Contender("PyTorch, recomputed", "peers.prose_torch:decode", peer),
        Contender("PyTorch, cache", "peers.prose_torch:decode", peer, settings={"cache": True}),
        Contender("sciml, recomputed", "prose_decoding:recomputed", env=OURS),
        Contender("sciml, cache", "prose_decoding:cached", env=OURS),
        Contender("sciml, beam 1", "prose_decoding:beam", env=OURS, settings={"beam": 1}),
        Contender("sciml, beam 1, grammar", "prose_decoding:beam", env=OURS, settings={"beam": 1, "grammar": True}),
        Contender("sciml, beam 4", "prose_decoding:beam", env=OURS, settings={"beam": 4}),
    )
    train = (
        Contender("PyTorch", "peers.prose_torch:train", peer),
        Contender("PyTorch compiled", "peers.prose_torch:train", peer, settings={"compile": True}),
        Contender("sciml", "prose_decoding:train", env=OURS),
    )
    return {
        "published size, 1": Case({**PUBLISHED, "batch": 1}, decode),
        "half size, 1": Case({**HALF, "batch": 1}, decode),
        "half size, 64": Case({**HALF, "batch": 64, "length": 32}, decode),
        "half size, training": Case({**HALF, "batch": 8}, train),
        "published size, training": Case({**PUBLISHED, "batch": 4}, train),
        "tiny, 3": Case({**TINY, "batch": 3}, decode, by_default=False),  # whether it runs
        "tiny, training": Case({**TINY, "batch": 3}, train, by_default=False),
    }


def _model(settings: dict):
    import equinox as eqx
    import jax
    import prose_problems as problems

    from sciml import interop, prose

    layers, words = settings["layers"], settings["vocabulary"]
    depths = {name.replace("text", "symbol"): depth for name, depth in layers.items()}
    sizes = prose.ProseSizes(
        settings["width"], settings["heads"], settings["hidden"], **depths, positions=settings["positions"]
    )
    make = lambda key: prose.prose_ode(
        settings["components"], symbols_in=words, symbols_out=words, sizes=sizes, key=key
    )
    return interop.prose_from_torch(eqx.filter_eval_shape(make, jax.random.key(0)), problems.weights(settings))


def _info(model, **more) -> dict:
    import jax

    from sciml.nn import partition

    parameters = sum(leaf.size for leaf in jax.tree.leaves(partition(model)[0]))
    return {"jax": jax.__version__, "device": jax.devices()[0].device_kind, "parameters": parameters, **more}


def _writer(settings: dict, write) -> dict:
    """What to time of `(model, memory) -> (tokens, lengths)` of one sample."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    import numpy as np
    import prose_problems as problems

    model, n = _model(settings), settings["data"]
    given = {name: jnp.asarray(array) for name, array in problems.batch(settings).items()}
    encode = lambda model, *sample: model.encode(*sample[:3], tokens_mask=sample[3])
    samples = given["times"][:, :n], given["states"][:, :n], given["tokens"], given["tokens_mask"]
    memory = eqx.filter_jit(eqx.filter_vmap(encode, in_axes=(None, 0, 0, 0, 0)))(model, *samples)
    apply = eqx.filter_jit(eqx.filter_vmap(write, in_axes=(None, 0)))

    def decode():
        return jax.block_until_ready(apply(model, memory))

    tokens, lengths = map(np.asarray, decode())
    info = _info(model, tokens=int(lengths.sum()))
    same_task = "grammar" not in settings and settings.get("beam", 1) == 1
    return {"decode": decode, "outputs": tokens.astype(np.float64) if same_task else None, "info": info}


def cached(settings: dict) -> dict:
    """`sciml.prose.greedy`, which keeps keys and values."""
    import jax.numpy as jnp

    from sciml import prose

    length = settings["length"]
    return _writer(
        settings, lambda m, memory: (prose.greedy(m, memory, bos=0, eos=-1, max_tokens=length), jnp.int32(length))
    )


def recomputed(settings: dict) -> dict:
    """All rows in each step; their number is fixed in a compiled loop."""
    import jax
    import jax.numpy as jnp

    length = settings["length"]

    def write(model, memory):
        def step(position, tokens):
            best = jnp.argmax(model.logits(memory, tokens[:-1])[position]).astype(jnp.int32)
            return tokens.at[position + 1].set(best)

        return jax.lax.fori_loop(0, length, step, jnp.zeros(length + 1, jnp.int32))[1:], jnp.int32(length)

    return _writer(settings, write)


def beam(settings: dict) -> dict:
    """`sciml.prose.beam`, of which the best one is kept."""
    from sciml import prose, symbolic

    vocabulary = symbolic.ode_vocabulary(settings["components"])
    free = prose.Unconstrained(0, -1)
    constraint = prose.Grammar(vocabulary, settings["components"]) if settings.get("grammar") else free

    def write(model, memory):
        found = prose.beam(model, memory, constraint, width=settings["beam"], max_tokens=settings["length"])
        return found.tokens[0], found.lengths[0]

    return _writer(settings, write)


def train(settings: dict) -> dict:
    """Our loss and training step, with donated buffers."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax
    import prose_problems as problems

    from sciml import prose
    from sciml.nn import partition

    model, n, count = _model(settings), settings["data"], settings["batch"]
    given = {name: jnp.asarray(array) for name, array in problems.batch(settings).items()}
    numbers = jnp.zeros(count, jnp.int32)
    sample = prose.Sample(
        **given,
        components=jnp.ones((count, settings["components"]), bool),
        equation_mask=jnp.ones(given["equation"].shape, bool),
        system=numbers,
        family=numbers,
        index=numbers,
    )
    arrays, static = partition(model)
    optimiser, both = optax.adam(1e-4), prose.prose_loss(history=n)
    loss = lambda arrays, sample: both(eqx.combine(arrays, static), sample, jax.random.key(0))[0]

    def update(state, sample):
        arrays, moments = state
        value, gradient = jax.value_and_grad(loss)(arrays, sample)
        change, moments = optimiser.update(gradient, moments, arrays)
        return (optax.apply_updates(arrays, change), moments), value

    def outputs(arrays, one):
        model = eqx.combine(arrays, static)
        times, equation = one.times, one.equation[:-1]
        inputs = times[:n], one.states[:n], times[n:], one.tokens, equation
        return model(*inputs, tokens_mask=one.tokens_mask)

    parts = jax.jit(jax.vmap(outputs, in_axes=(None, 0)))(arrays, sample)
    values = np.concatenate([np.asarray(part).ravel() for part in parts])
    apply, train = jax.jit(loss), jax.jit(update, donate_argnums=0)
    state = [(jax.tree.map(jnp.copy, arrays), optimiser.init(arrays))]

    def forward():
        jax.block_until_ready(apply(arrays, sample))

    def step():
        state[0], value = train(state[0], sample)
        jax.block_until_ready((state, value))

    return {"forward": forward, "step": step, "outputs": values, "info": _info(model)}


def report(name: str, rows: dict) -> None:
    """One line per contender."""
    print(f"\n{name}")
    for contender, row in rows.items():
        if "not_measured" in row:
            print(f"  {contender:26}not measured: {row['not_measured']}")
            continue
        cells = ""
        for target in ("decode", "forward", "step"):
            if target in row:
                low, high = row[target].get("ratio_quartiles", (float("nan"),) * 2)
                ratio, seconds = row[target].get("ratio", float("nan")), row[target]["seconds"]
                cells += f"  {target} {seconds * 1e3:9.1f} ms {ratio:5.3f} ({low:5.3f}-{high:5.3f})"
                if "tokens" in row:
                    cells += f" {row['tokens'] / seconds:9.1f} tokens/s"
        error = row.get("max_error", float("nan"))
        print(f"  {contender:26}{cells}  error {error:7.1e}  {row['peak_memory_mib']:6.0f} MiB")


if __name__ == "__main__":
    timer.command(__doc__, cases, RESULTS, report, rounds=9)
