"""What the models promise beyond the numbers of the published code."""

import dataclasses
import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_trees_close, drawn

from sciml import prose, structure

TIMES, COMPONENTS, QUERIES, TOKENS, WRITTEN, WORDS = 6, 3, 4, 5, 7, 11
SIZES = prose.ProseSizes(8, 2, 12, 1, 1, 1, 1, 1, positions=9)
EXACT = {"atol": 1e-12}  # float64, sums in another order
KEY = jax.random.key(0)


def model_of(make, *inputs, **settings):
    return drawn(lambda: make(*inputs, **settings, sizes=SIZES, key=KEY))


def both(words):
    return {"symbols_in": words, "symbols_out": words}


def sample(getkey):
    times = jnp.sort(jax.random.uniform(getkey(), (TIMES,), maxval=2))
    states = 5 * jax.random.normal(getkey(), (TIMES, COMPONENTS)) + 3
    tokens, equation = (jax.random.randint(getkey(), (n,), 0, WORDS) for n in (TOKENS, WRITTEN))
    return times, states, 2 + jnp.arange(QUERIES) / 3, tokens, equation


@pytest.fixture(scope="module")
def improved():
    with jax.enable_x64(True):
        variant = dataclasses.replace(prose.IMPROVED_VARIANT, scaling=prose.PerTrajectory(0.0))
        return model_of(prose.improved_ode, COMPONENTS, **both(WORDS), variant=variant)


@eqx.filter_jit
def applied(model, times, states, query, tokens=None, equation=None, mask=None, tokens_mask=None):
    return model(times, states, query, tokens, equation, mask=mask, tokens_mask=tokens_mask)


def test_padding_changes_nothing(improved, getkey):
    with jax.enable_x64(True):
        times, states, query, tokens, equation = sample(getkey)
        expected = applied(improved, times, states, query, tokens, equation)
        padded = (
            jnp.concatenate((times, times[:2] - 9)),
            jnp.concatenate((states, 1e3 + states[:2])),
            query,
            jnp.concatenate((tokens, tokens[:3])),
            equation,
        )
        masks = jnp.arange(TIMES + 2) < TIMES, jnp.arange(TOKENS + 3) < TOKENS
        for value, other in zip(applied(improved, *padded, *masks), expected, strict=True):
            np.testing.assert_allclose(value, other, **EXACT)
        seen = jax.tree.map(jnp.ones_like, masks)
        assert np.abs(applied(improved, *padded, *seen)[0] - expected[0]).max() > 1e-3


def test_a_batch_is_each_sample_alone_and_queries_are_independent(improved, getkey):
    with jax.enable_x64(True):
        samples = [sample(getkey) for _ in range(2)]
        batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *samples)
        states, logits = eqx.filter_jit(eqx.filter_vmap(improved))(*batch)
        for i, one in enumerate(samples):
            alone, written = applied(improved, *one)
            np.testing.assert_allclose(states[i], alone, **EXACT)
            np.testing.assert_allclose(logits[i], written, **EXACT)
        times, known, query, tokens, equation = samples[0]
        moved, _ = applied(improved, times, known, query.at[2].add(0.3), tokens, equation)
        changed = np.abs(moved - states[0]).max(1) > 1e-10
        np.testing.assert_array_equal(changed, np.arange(QUERIES) == 2)


def test_writing_token_by_token_is_exact(improved, getkey):
    with jax.enable_x64(True):
        times, states, _, tokens, equation = sample(getkey)

        @eqx.filter_jit
        def both_ways(model):
            memory = model.encode(times, states, tokens, tokens_mask=jnp.arange(TOKENS) != 1)
            step = lambda cache, token: model.step(cache, token)[::-1]
            return jax.lax.scan(step, model.start(memory, WRITTEN + 2), equation)[1], model.logits(memory, equation)

        np.testing.assert_allclose(*both_ways(improved), **EXACT)


def test_greedy_tokens_are_the_likeliest_until_the_end(improved, getkey):
    with jax.enable_x64(True):
        samples = [sample(getkey) for _ in range(3)]
        times, states, _, tokens, _ = jax.tree.map(lambda *leaves: jnp.stack(leaves), *samples)
        encode = eqx.filter_jit(lambda model: jax.vmap(model.encode)(times, states, tokens))
        memory, length = encode(improved), 6
        write = eqx.filter_jit(
            lambda model, end: jax.vmap(lambda m: prose.greedy(model, m, bos=2, eos=end, max_tokens=length))(memory)
        )
        logits = eqx.filter_jit(eqx.filter_vmap(improved.logits))
        free = np.asarray(write(improved, jnp.array(-1)))  # never ends
        chosen = np.argmax(logits(memory, jnp.asarray(np.pad(free[:, :-1], ((0, 0), (1, 0)), constant_values=2))), -1)
        np.testing.assert_array_equal(free, chosen)
        end = free[0, 2]
        stopped = np.asarray(write(improved, jnp.array(end)))
        for i, row in enumerate(free):
            first = np.argmax(row == end) if end in row else length
            np.testing.assert_array_equal(stopped[i], [*row[:first], *[end] * (length - first)])


def test_scales_of_a_trajectory(getkey):
    with jax.enable_x64(True):
        states = jax.random.normal(getkey(), (5, 2, 7)) * 3 + 2
        states = states.at[:, 1].set(4.0)  # does not vary
        mask = jnp.array([True, True, False, True, True])
        scaling = jax.jit(prose.PerTrajectory(1e-3).__call__)
        scales = scaling(states, mask)
        seen = np.asarray(states)[np.asarray(mask), 0]
        np.testing.assert_allclose(scales.mean.ravel(), [seen.mean(), 4], **EXACT)
        np.testing.assert_allclose(scales.deviation.ravel(), [seen.std(ddof=1) + 1e-3, 1e-3], **EXACT)
        np.testing.assert_allclose(scales.decode(scales.encode(states)), states, **EXACT)
        slope = jax.jit(jax.grad(lambda x: jnp.sum(scaling(x, mask).deviation)))(states)
        assert np.isfinite(slope).all()
        unscaled = prose.Unscaled()(states, mask)
        np.testing.assert_array_equal(unscaled.encode(states), states)


def test_predictions_follow_the_scale_of_the_states_but_not_equations(improved, getkey):
    with jax.enable_x64(True):
        model = improved
        times, states, query, tokens, equation = sample(getkey)
        factor, shift = jnp.array([2.0, 3.0, 0.5]), jnp.array([1.0, -4.0, 2.0])
        outputs = []
        for without in (False, True):
            if without:
                model = eqx.tree_at(lambda m: m.data_encoder.embedding.amplitude, model, None)
            plain, logits = applied(model, times, states, query, tokens, equation)
            moved, other = applied(model, times, states * factor[None] + shift[None], query, tokens, equation)
            outputs.append((moved - (plain * factor[None] + shift[None]), other - logits))
        assert np.abs(outputs[0][1]).max() > 1e-3
        for difference in outputs[1]:
            np.testing.assert_allclose(difference, 0, atol=1e-10)  # states up to 40


def test_points_of_a_frame_are_independent(getkey):
    with jax.enable_x64(True):
        coordinates = jnp.array([0.1, 0.5, 1.3])
        make = functools.partial(model_of, prose.prose_pde, 6)
        model = make(coordinates=coordinates)
        model = eqx.tree_at(lambda m: m.data_decoder.query.points.value, model, coordinates)
        times, states = jnp.arange(4.0), jax.random.normal(getkey(), (4, 1, 6))
        query = jnp.array([5.0, 6.5])
        frames, _ = applied(model, times, states, query)
        assert frames.shape == (2, 1, 3)
        single = eqx.tree_at(lambda m: m.data_decoder.query.points.value, model, coordinates[1:2])
        single = eqx.tree_at(
            lambda m: m.data_decoder.head, single, prose.FrameHead(model.data_decoder.head.network, 1, 1)
        )
        np.testing.assert_allclose(applied(single, times, states, query)[0], frames[..., 1:2], **EXACT)


def test_a_patch_sees_its_own_points_alone(getkey):
    with jax.enable_x64(True):
        patches = prose.PatchSizes((4, 6), 2, 1, 3)
        model = model_of(prose.prose_fd, 2, patches=patches)
        embedding, head = model.data_encoder.embedding, model.data_decoder.head
        states = jax.random.normal(getkey(), (3, 2, 4, 6))
        scales = prose.Unscaled()(states, jnp.ones(3, bool))
        rows = jax.jit(lambda states: embedding(jnp.arange(3.0), states, scales))
        changed = np.any(np.asarray(rows(states.at[1, :, 2, 5].add(1.0)) != rows(states)), axis=1)
        np.testing.assert_array_equal(np.flatnonzero(changed), [1 * 6 + 1 * 3 + 2])  # frame, then row and column
        latent = jax.random.normal(getkey(), (3 * 24, 8))
        head = jax.jit(head.__call__)
        moved = head(latent.at[24 + 2 * 6 + 5].add(1.0)) - head(latent)
        assert [tuple(index) for index in np.argwhere(np.abs(moved) > 1e-12)] == [(1, 0, 2, 5), (1, 1, 2, 5)]


@pytest.mark.parametrize(
    "make",
    [
        lambda: prose.prose_ode(COMPONENTS, **both(WORDS), sizes=SIZES, key=KEY),
        lambda: prose.improved_ode(COMPONENTS, **both(WORDS), sizes=SIZES, key=KEY),
        lambda: prose.prose_pde(6, coordinates=jnp.arange(3.0), symbols_in=WORDS, sizes=SIZES, key=KEY),
        lambda: prose.prose_fd(2, patches=prose.PatchSizes((4, 4), 2, 2, 3), sizes=SIZES, key=KEY),
    ],
    ids=["ode", "improved", "pde", "fd"],
)
def test_a_model_is_rebuilt_from_its_description(make):
    with jax.enable_x64(True):
        model = drawn(make)
        again = structure.rebuild(structure.describe(model))
        assert_trees_close(again, jax.tree.map(jnp.zeros_like, model))


def test_what_does_not_fit_is_named(improved, getkey):
    with jax.enable_x64(True):
        times, states, query, tokens, equation = sample(getkey)
        alone = model_of(prose.prose_ode, COMPONENTS)
        written = model_of(prose.prose_ode, COMPONENTS, symbols_out=WORDS)
        frames = model_of(prose.prose_fd, 2, patches=prose.PatchSizes((4, 4), 2, 2, 3))
        with pytest.raises(ValueError, match=r"reads no equation. Leave `tokens` out, or make it with `symbols_in`"):
            alone.encode(times, states, tokens)
        with pytest.raises(ValueError, match=r"reads an equation. Give `tokens`, the guess"):
            improved.encode(times, states)
        with pytest.raises(ValueError, match=r"writes no equation. Make it with `symbols_out`"):
            eqx.filter_eval_shape(alone, times, states, query, None, equation)
        with pytest.raises(
            ValueError, match=r"sees the rows of an equation, but the model reads none. Give it `all_embeddings`"
        ):
            eqx.filter_eval_shape(written, times, states, query, None, equation)
        with pytest.raises(ValueError, match=r"states \(time, 3\), got \(6, 2\). Pad systems of lower dimension"):
            eqx.filter_eval_shape(alone.encode, times, states[:, :2])
        with pytest.raises(ValueError, match=r"up to 9 tokens, got 10. Make the model with more positions"):
            eqx.filter_eval_shape(written.symbol_decoder.start, jnp.zeros((2, 8)), jnp.ones(2, bool), 10)
        field = jnp.zeros((3, 2, 4, 4))
        with pytest.raises(
            ValueError, match=r"Expected frames of 4 patches of 2x2 points, got \(4, 6\) points. Interpolate"
        ):
            eqx.filter_eval_shape(frames.encode, times[:3], jnp.zeros((3, 2, 4, 6)))
        with pytest.raises(ValueError, match=r"Expected up to 10 frames, got 11. Make the model with more frames"):
            eqx.filter_eval_shape(frames, times[:3], field, jnp.zeros(11))
        pde = eqx.filter_eval_shape(lambda: prose.prose_pde(6, sizes=SIZES, key=KEY))
        with pytest.raises(
            ValueError, match=r"\(channels, points\) with 6 values, got \(1, 5\). Interpolate the frames"
        ):
            pde.encode(times, jnp.zeros((TIMES, 1, 5)))
