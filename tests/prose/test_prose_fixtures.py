"""The published models, stage by stage, against numbers of their own code."""

import dataclasses
import functools
import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import REFERENCE

from sciml import interop, prose
from sciml.prose._model.losses import relative_squares

PROSE = REFERENCE / "prose"
TAGS = [path.name.removesuffix("_index.json") for path in sorted(PROSE.glob("*_index.json"))]
ODE = [tag for tag in TAGS if tag.startswith("ode")] or ["none"]
PDE = [tag for tag in TAGS if tag.startswith("pde")] or ["none"]
FD = [tag for tag in TAGS if tag.startswith("fd")] or ["none"]
TOLERANCE = 1e-5  # of numbers stored in float32, in units of the largest one; an independent program differs by 2e-6
EXACT = 1e-11  # of numbers computed in float64; an independent program differs by 4e-15


def test_every_fixture_is_covered(reference):
    found = {path.name.removesuffix("_index.json") for path in (reference / "prose").glob("*_index.json")}
    assert found == {*ODE, *PDE, *FD} - {"none"}


def read(folder, tag):
    """Description, inputs, outputs, outputs in float64, gradients under the published names, and the state dict."""
    folder = folder / "prose"
    info = json.loads((folder / f"{tag}_index.json").read_text())
    io = dict(np.load(folder / f"{tag}_io.npz"))
    parts = [
        {name.removeprefix(p): a for name, a in io.items() if name.startswith(p)} for p in ("in/", "out/", "out64/")
    ]
    grads = folder / f"{tag}_grads.npz"
    return info, *parts, dict(np.load(grads)) if grads.exists() else {}, dict(np.load(folder / f"{tag}_weights.npz"))


def assert_close(name, actual, expected, tolerance):
    scale = max(np.abs(expected).max(), 1e-30)
    np.testing.assert_allclose(np.asarray(actual) / scale, expected / scale, rtol=0, atol=tolerance, err_msg=name)


def compare(values, gradients, fixture):
    _, _, out, out64, grads, _ = fixture
    assert set(out) <= set(values)
    for name, expected in out.items():
        assert_close(name, values[name], expected, TOLERANCE)
    for name, expected in out64.items():
        assert_close(name, values[name], expected, EXACT)
    named = interop.prose_to_torch(gradients)
    assert set(grads) <= set(named)
    for name, expected in grads.items():
        assert_close(name, named[name], expected, TOLERANCE)


def loaded(make, weights):
    """The model that `make` describes, with the published weights, nothing else allocated."""
    return interop.prose_from_torch(eqx.filter_eval_shape(make, key=jax.random.key(0)), weights)


def gradient(model, loss):
    """`(values, gradient)` of `loss(model) -> (total, values)`, compiled."""
    found, values = eqx.filter_jit(eqx.filter_grad(loss, has_aux=True))(model)
    return values, found


def layers(transformer, made, name, mask, *operands):
    """Writes down all states of a stack, zero where no row is, as the published code leaves them; returns the last."""
    states = transformer.states(*operands)
    made[f"{name}_layers"] = jnp.stack(states) * mask[None, :, None]
    made[name] = made[f"{name}_layers"][-1]
    return states[-1]


def only(what, value, *supported):
    """Fails on a field of a description that the library has no part for, so that no other model is built silently."""
    if value not in supported:
        raise ValueError(f"The fixture has {what} = {value!r}, the library builds {', '.join(map(repr, supported))}.")


def no_more_fields(config, *known):
    left = sorted(set(config) - set(known))
    if left:
        raise ValueError(f"The fixture has the fields {', '.join(left)}, which its builder does not read. Read them.")


def ode_model(info):
    config, words = info["config"], info["config"]["n_words"]
    sizes = "dim", "heads", "layers", "max_output_dimension", "n_words", "ffn"
    parts = "split_fused_feature_data", "split_fused_feature_text", "no_text", "data_only"
    no_more_fields(config, *sizes, *parts, "activation", "norm", "data_feature_resnet")
    only("activation", config["activation"], "gelu (exact erf)")
    only("norm", config["norm"], "post-LN eps 1e-12")
    only("data_feature_resnet", config["data_feature_resnet"], False)
    names = "data_encoder", "symbol_encoder", "fusion", "data_decoder", "symbol_decoder"
    depths = {name: config["layers"][name] for name in names}
    sizes = prose.ProseSizes(config["dim"], config["heads"], config["ffn"], **depths)
    data_sees = prose.data_embeddings if config["split_fused_feature_data"] else prose.all_embeddings
    symbols_see = prose.symbol_embeddings if config["split_fused_feature_text"] else prose.all_embeddings
    reads = None if config["no_text"] else words
    writes = None if config["no_text"] or config["data_only"] else words
    variant = dataclasses.replace(prose.ODE_VARIANT, data_sees=data_sees, symbols_see=symbols_see)
    return functools.partial(
        prose.prose_ode,
        config["max_output_dimension"],
        symbols_in=reads,
        symbols_out=writes,
        sizes=sizes,
        variant=variant,
    )


def ode_inputs(given):
    """Times, states, tokens and equations with their masks, the batch first."""
    ragged = lambda rows, count: (rows.T, np.arange(rows.shape[0]) < count[:, None])
    data = np.moveaxis(given["data_input"], 1, 0)
    mask = np.arange(data.shape[1]) < given["data_len"][:, None]
    symbols = [
        ragged(given[f"symbol_{kind}_tokens"], given[f"symbol_{kind}_len"])
        for kind in ("encoder", "decoder")
        if f"symbol_{kind}_tokens" in given
    ]
    return data[..., 0], data[..., 1:], mask, *(symbols or [(None, None)] * 2)


def ode_stages(model, query, times, states, mask, tokens, tokens_mask, equation, equation_mask):
    """Everything between input and output of one sample; stacks have no last normalisation here."""
    encoder, decoder, made = model.data_encoder, model.data_decoder, {}
    memory = model.encode(times, states, tokens, mask=mask, tokens_mask=tokens_mask)
    made["embedder"] = encoder.embedding(times, states, memory.scales)
    data = layers(encoder.transformer, made, "data_encoder", mask, made["embedder"], mask[None])
    if tokens is not None:
        reader, fusion, both = model.symbol_encoder, model.fusion, jnp.concatenate((mask, tokens_mask))
        rows = reader.embedding(tokens)
        symbols = layers(reader.transformer, made, "symbol_encoder", tokens_mask, rows, tokens_mask[None])
        kinds = jnp.concatenate((data + fusion.kinds[:1], symbols + fusion.kinds[1:]))
        layers(fusion.transformer, made, "fusion", both, kinds, both[None])
        made["fusion"] = jnp.concatenate((memory.data, memory.symbols)) * both[:, None]
    made["query_emb"] = decoder.query(query)
    rows, seen = decoder.sees(memory)
    everywhere = jnp.ones(query.shape, bool)
    layers(decoder.transformer, made, "data_decoder", everywhere, made["query_emb"], None, rows, seen[None])
    made["data_decoder_hidden"] = made["data_decoder_layers"][-1]
    made["data_pred"] = model.predict(memory, query)
    if model.symbol_decoder is not None:
        writer = model.symbol_decoder
        rows, seen = writer.sees(memory)
        causal = jnp.tril(jnp.ones((equation.shape[0],) * 2, bool))
        operands = writer.embedding(equation), causal, rows, seen[None]
        layers(writer.transformer, made, "symbol_decoder", equation_mask, *operands)
        made["symbol_decoder_hidden"] = made["symbol_decoder_layers"][-1]
        made["symbol_logits"] = model.logits(memory, equation)
    return made


@pytest.mark.parametrize("tag", ODE)
def test_prose_ode(tag, reference):
    fixture = read(reference, tag)
    info, given, out, _, _, weights = fixture
    times, states, mask, (tokens, tokens_mask), (equation, equation_mask) = ode_inputs(given)

    def loss(model):
        batch = times, states, mask, tokens, tokens_mask, equation, equation_mask
        query = jnp.asarray(given["query_times"], model.data_decoder.head.weight.dtype)
        batch = jax.tree.map(lambda a: jnp.asarray(a, query.dtype) if a.dtype == np.float32 else jnp.asarray(a), batch)
        made = jax.vmap(lambda batch: ode_stages(model, query, *batch))(batch)
        labels = jnp.asarray(np.moveaxis(given["labels"], 1, 0), query.dtype)
        components = jnp.asarray(given["label_mask"][0])
        data = jax.vmap(relative_squares)(made["data_pred"], labels, components).mean()
        made |= {"data_loss": data, "total_loss": data}
        if "symbol_logits" in made:
            following = batch[5][:, 1:], batch[6][:, 1:]
            made["symbol_loss"] = prose.cross_entropy(made["symbol_logits"][:, :-1], *following)
            made["total_loss"] = 6 * data + made["symbol_loss"]
        return made["total_loss"], made

    with jax.enable_x64(True):
        model = loaded(ode_model(info), weights)
        values, gradients = gradient(model, loss)
        values = dict(values)
        for name, value in values.items():
            if value.ndim:
                values[name] = jnp.moveaxis(value, 0, 1)  # the published layout is (rows, batch, ...), or layers first
        values["query_emb"] = values["query_emb"][:, 0]
        if "symbol_logits" in values:
            exists = jnp.asarray(equation_mask.T)[..., None]
            values["symbol_logits"] = jnp.where(exists, values["symbol_logits"], out["symbol_logits"])
            values["greedy_tokens"] = written(model, given, info, len(out["greedy_tokens"]))
        compare(values, gradients, fixture)


def written(model, given, info, length):
    """Greedy tokens in the published form: the first begins, and the last one ends whatever is written."""
    times, states, mask, (tokens, tokens_mask), _ = ode_inputs(given)
    begin, end = info["special_ids"]["bos"], info["special_ids"]["eos"]

    @eqx.filter_jit
    def write(model, times, states, mask, tokens, tokens_mask):
        memory = model.encode(times, states, tokens, mask=mask, tokens_mask=tokens_mask)
        return prose.greedy(model, memory, bos=begin, eos=end, max_tokens=length - 2)

    arrays = map(jnp.asarray, (times, states, mask, tokens, tokens_mask))
    tokens = jax.vmap(functools.partial(write, model))(*arrays)
    return np.pad(tokens.T, ((1, 1), (0, 0)), constant_values=((begin, end), (0, 0)))


def small_sizes(info, **depths):
    config = info["config"]
    return prose.ProseSizes(config["dim"], config["head"], config["ffn"], **depths)


def fields(arrays):
    """Channels in front of space."""
    return jnp.asarray(np.moveaxis(arrays, -1, 2), jnp.float64)


def pde_model(info, weights, points):
    """What makes the model of a description, and whether it writes equations."""
    config, words = info["config"], info["n_words"]
    no_more_fields(config, "dim", "ffn", "head", "enc", "sym", "fus", "dec", "sdec")
    only("norm", info["norm"], "pre-LN eps 1e-5 + final LN")
    only("activation", info["activation"], "gelu exact")
    reads, writes = (any(name.startswith(f"symbol_{part}.") for name in weights) for part in ("encoder", "decoder"))
    only("a symbol encoder", reads, True)
    depths = {"symbol_decoder": config["sdec"]} if writes else {}
    sizes = small_sizes(
        info,
        data_encoder=config["enc"],
        symbol_encoder=config["sym"],
        fusion=config["fus"],
        data_decoder=config["dec"],
        positions=len(weights["symbol_encoder.positional_embedding.pe"]),
        **depths,
    )
    written = words if writes else None
    return functools.partial(prose.prose_pde, points, symbols_in=words, symbols_out=written, sizes=sizes), writes


@pytest.mark.parametrize("tag", PDE)
def test_prose_pde(tag, reference):
    fixture = read(reference, tag)
    info, given, out, _, _, weights = fixture
    _config, points, inputs = info["config"], given["raw"].shape[2], given["input_times"].shape[1]
    make, writes = pde_model(info, weights, points)

    def stages(model, times, states, tokens, mask, query, equation):
        encoder, made = model.data_encoder, {}
        memory = model.encode(times, states, tokens, tokens_mask=mask)
        scaled = memory.scales.encode(states)
        made["data_embeded"] = encoder.embedding(times, scaled, memory.scales)
        made["data_encoded"] = encoder(times, states, jnp.ones(times.shape, bool))[0]
        made["symbol_encoded"] = model.symbol_encoder(tokens, mask)
        made["fused"], exists = prose.all_embeddings(memory)
        made["fused_mask"] = ~exists
        made["data_output"] = memory.scales.encode(model.predict(memory, query))
        if writes:
            made["text_decoded"] = model.symbol_decoder.hidden(equation, *prose.all_embeddings(memory))
            made["symbol_logits"] = model.logits(memory, equation)
        return made, memory

    def loss(model):
        raw, equation = fields(given["raw"]), jnp.asarray(given["decoder_tokens"]) if writes else None
        times, query = (jnp.asarray(given[f"{kind}_times"][..., 0], raw.dtype) for kind in ("input", "output"))
        tokens, mask = jnp.asarray(given["symbol_tokens"]), jnp.asarray(~given["symbol_pad_mask"])
        apply = functools.partial(stages, model)
        made, memory = jax.vmap(apply)(times, raw[:, :inputs], tokens, mask, query, equation)
        made["data_loss"] = jnp.mean((made["data_output"] - fields(given["labels"])) ** 2)
        if not writes:
            made["total_loss"] = made["data_loss"]
            return made["total_loss"], {"made": made, "memory": memory}
        following = jnp.asarray(given["pred_mask"])[:, :-1]
        made["text_loss"] = prose.cross_entropy(made["symbol_logits"][:, :-1], equation[:, 1:], following)
        made["total_loss"] = 5 * made["data_loss"] + made["text_loss"]
        return made["total_loss"], {"made": made, "memory": memory}

    with jax.enable_x64(True):
        model = loaded(make, weights)
        values, gradients = gradient(model, loss)
        values, memory = dict(values["made"]), values["memory"]
        for name in ("mean", "std"):
            scale = memory.scales.mean if name == "mean" else memory.scales.deviation
            assert_close(name, scale.ravel(), given[name].ravel(), TOLERANCE)
        values["data_output"] = jnp.moveaxis(values["data_output"], 2, -1)
        if writes:
            exists = ~given["decoder_pad_mask"][..., None]  # elsewhere rows see padding there and nothing here
            for name in ("text_decoded", "symbol_logits"):
                values[name] = jnp.where(exists, values[name], out[name])
            values["greedy_tokens_official_eval"] = written_pde(model, memory, info, out)
        compare(values, gradients, fixture)


@pytest.mark.parametrize("writes", [False, True])
def test_the_builder_of_prose_pde_reads_whether_equations_are_written(writes):
    """No fixture is 2-to-1: names and structure are tested, the parts are those of the 2-to-2 fixture."""
    config = {"dim": 8, "ffn": 12, "head": 2, "enc": 1, "sym": 1, "fus": 1, "dec": 1, "sdec": 1}
    info = {"config": config, "norm": "pre-LN eps 1e-5 + final LN", "activation": "gelu exact", "n_words": 11}
    hints = {"symbol_encoder.positional_embedding.pe": np.zeros((9, 8))} | (
        {"symbol_decoder.proj.bias": None} if writes else {}
    )
    model = pde_model(info, hints, 6)[0](key=jax.random.key(0))
    arrays = interop.prose_to_torch(model)
    assert (model.symbol_decoder is not None) == any(name.startswith("symbol_decoder.") for name in arrays) == writes
    make, found = pde_model(info, arrays, 6)
    assert found == writes
    for one, other in zip(jax.tree.leaves(loaded(make, arrays)), jax.tree.leaves(model), strict=True):
        np.testing.assert_array_equal(one, other)


def written_pde(model, memory, info, out):
    """Greedy tokens; the published code lets each of them see the padding of the memory."""
    expected, special = out["greedy_tokens_official_eval"], info["special"]
    memory = eqx.tree_at(lambda m: m.symbols_mask, memory, jnp.ones_like(memory.symbols_mask))
    length = expected.shape[1] - 2
    write = lambda memory: prose.greedy(model, memory, bos=special["bos"], eos=special["eos"], max_tokens=length)
    tokens = jax.jit(jax.vmap(write))(memory)
    return np.pad(tokens, ((0, 0), (1, 1)), constant_values=((0, 0), (special["bos"], special["eos"])))


def fd_model(info, weights):
    """What makes the model of a description: the latest release, or the first with layer normalisation."""
    config, points = info["config"], info["x_num"]
    no_more_fields(config, "dim", "ffn", "head", "enc", "sym_layers", "fus", "dec", "pn", "pno", "conv_dim")
    only("norm", info["norm"], None, "rms", "layer")
    only("a symbol encoder", "symbol_encoder.word_embeddings.weight" in weights, True)
    sizes = small_sizes(
        info,
        data_encoder=config["enc"],
        symbol_encoder=config["sym_layers"],
        fusion=config["fus"],
        data_decoder=config["dec"],
        positions=len(weights["symbol_encoder.positional_embedding.pe"]),
    )
    patches = prose.PatchSizes((points,) * 2, points // config["pn"], points // config["pno"], config["conv_dim"])
    continuous = "embedder.time_proj.0.weight" in weights
    frames = None if continuous else weights["embedder.time_embed"].shape[1]
    settings = {
        "times": prose.time_network if continuous else functools.partial(prose.LearnedTimes, frames),
        "variant": prose.FD_VARIANT,
    }
    if info["norm"] == "layer":
        settings["variant"] = dataclasses.replace(prose.PDE_VARIANT, scaling=prose.FD_VARIANT.scaling)
    return functools.partial(
        prose.prose_fd, info["channels"], symbols_in=info["n_words"], patches=patches, sizes=sizes, **settings
    )


TINY_FD = {"dim": 8, "ffn": 12, "head": 2, "enc": 1, "sym_layers": 1, "fus": 1, "dec": 1}
TINY_FD |= {"pn": 2, "pno": 4, "conv_dim": 3}


@pytest.mark.parametrize("norm", [None, "layer"])
@pytest.mark.parametrize("time", ["embedder.time_proj.0.weight", "embedder.time_embed"])
def test_builders_follow_the_description(norm, time):
    info = {"config": TINY_FD, "x_num": 8, "channels": 2, "n_words": 11, "norm": norm}
    hints = {"symbol_encoder.word_embeddings.weight": None, "symbol_encoder.positional_embedding.pe": np.zeros((9, 8))}
    model = fd_model(info, hints | {time: np.zeros((1, 4, 1, 8))})(key=jax.random.key(0))
    arrays = interop.prose_to_torch(model)
    fused = "data_encoder.transformer_encoder.layers.0.self_attn.in_proj_weight" in arrays
    assert (fused, time in arrays) == (norm == "layer", True)
    again = loaded(fd_model(info, arrays), arrays)
    for one, other in zip(jax.tree.leaves(again), jax.tree.leaves(model), strict=True):
        np.testing.assert_array_equal(one, other)


def test_unknown_fields_of_a_description_are_refused():
    info = {"config": TINY_FD, "x_num": 8, "channels": 2, "n_words": 11, "norm": "batch"}
    with pytest.raises(ValueError, match="The fixture has norm = 'batch', the library builds None, 'rms', 'layer'"):
        fd_model(info, {})
    with pytest.raises(ValueError, match="The fixture has the fields depthwise, which its builder does not read"):
        fd_model(info | {"config": TINY_FD | {"depthwise": True}}, {})


@pytest.mark.parametrize("tag", FD)
def test_prose_fd(tag, reference):
    fixture = read(reference, tag)
    info, given, out, _, _, weights = fixture
    inputs = given["data_input"].shape[1]
    make = fd_model(info, weights)

    def stages(model, times, query, states, tokens, mask):
        encoder, decoder, made = model.data_encoder, model.data_decoder, {}
        memory = model.encode(times, states, tokens, tokens_mask=mask)
        made["embedded"] = encoder.embedding(times, memory.scales.encode(states), memory.scales)
        made["data_encoded"] = encoder(times, states, jnp.ones(times.shape, bool))[0]
        made["symbol_encoded"] = model.symbol_encoder(tokens, mask)
        made["fused"], exists = prose.all_embeddings(memory)
        made["fused_pad_mask"] = ~exists
        made["query_emb"] = decoder.query(query)
        made["decoder_hidden"] = decoder.hidden(made["query_emb"], made["fused"], exists)
        made["prediction"] = memory.scales.encode(model.predict(memory, query))
        return made, memory.scales

    with jax.enable_x64(True):
        model = loaded(make, weights)
        times, query = (jnp.asarray(given[f"{kind}_times"][0, :, 0], jnp.float64) for kind in ("input", "output"))
        tokens, mask = jnp.asarray(given["symbol_tokens"]), jnp.asarray(~given["symbol_pad_mask"])
        apply = eqx.filter_jit(jax.vmap(functools.partial(stages, model, times, query)))
        values, scales = apply(fields(given["raw"])[:, :inputs], tokens, mask)
        assert_close("mean", scales.mean.ravel(), given["mean"].ravel(), TOLERANCE)
        assert_close("std", scales.deviation.ravel(), given["std"].ravel(), TOLERANCE)
        values = dict(values)
        values["query_emb"] = values["query_emb"][:1]
        values["prediction"] = jnp.moveaxis(values["prediction"], 2, -1)
        present = np.broadcast_to(given["channel_mask"], given["labels"].shape)
        values["loss"] = jnp.sum((values["prediction"] * present - given["labels"]) ** 2) / present.sum()
        for name, expected in out.items():
            assert_close(name, values[name], expected, TOLERANCE)


@pytest.mark.parametrize("tag", ODE)
def test_prose_ode_in_single_precision(tag, reference):
    info, given, out, _, _, weights = read(reference, tag)
    model = loaded(ode_model(info), weights)
    times, states, mask, (tokens, tokens_mask), (equation, equation_mask) = ode_inputs(given)
    writes = model.symbol_decoder is not None

    def apply(model, times, states, mask, tokens, tokens_mask, equation):
        query = jnp.asarray(given["query_times"])
        return model(times, states, query, tokens, equation, mask=mask, tokens_mask=tokens_mask)

    inputs = times, states, mask, tokens, tokens_mask, equation if writes else None
    batch = jax.tree.map(jnp.asarray, inputs)
    prediction, logits = eqx.filter_jit(lambda model: jax.vmap(functools.partial(apply, model))(*batch))(model)
    assert_close("data_pred", prediction, np.moveaxis(out["data_pred"], 1, 0), TOLERANCE)
    if writes:
        exists = equation_mask[..., None]
        expected = np.moveaxis(out["symbol_logits"], 1, 0)
        assert_close("symbol_logits", jnp.where(exists, logits, 0), np.where(exists, expected, 0), TOLERANCE)
