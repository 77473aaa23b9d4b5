"""Decoding: which tokens may follow, and beam search against all sequences that there are."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import drawn

from sciml import prose, symbolic
from sciml.prose._model.states import in_precision

TIMES, COMPONENTS, GUESS, WIDTH, HEADS = 5, 2, 3, 8, 2
SIZES = prose.ProseSizes(WIDTH, HEADS, 12, 1, 1, 1, 1, 1, positions=64)
ODE = symbolic.ode_vocabulary(3)
SMALL = symbolic.Vocabulary(("add", "neg", "u_0", "u_1", "|", "pow"), ("add", "neg"), symbolic.NumberCodec(1, 0))
FEW = 4  # ids of a model whose sequences can all be looked at
BEGIN, END = 2, 1


def model_of(make, words, scale=1.0):
    """A model whose tokens depend on the sample: without biases, and with a table times `scale`."""
    model = drawn(lambda: make(COMPONENTS, symbols_in=FEW, symbols_out=words, sizes=SIZES, key=jax.random.key(0)), 1)

    def initial(path, leaf):
        is_scale = "scale" in jax.tree_util.keystr(path[-1:])
        return jnp.full_like(leaf, is_scale) if eqx.is_array(leaf) and leaf.ndim == 1 else leaf

    model = jax.tree_util.tree_map_with_path(initial, model)
    return eqx.tree_at(lambda m: m.symbol_decoder.embedding.table, model, replace_fn=lambda table: scale * table)


@pytest.fixture(scope="module")
def small():
    with jax.enable_x64(True):
        return model_of(prose.improved_ode, FEW)


def encode(model, count):
    """Memories of some samples whose guesses have other lengths."""
    rng = np.random.default_rng(0)
    times = jnp.asarray(np.sort(rng.uniform(0, 2, (count, TIMES))))
    states = jnp.asarray(rng.normal(size=(count, TIMES, COMPONENTS)))
    tokens = jnp.asarray(rng.integers(0, FEW, (count, GUESS)))
    mask = jnp.arange(GUESS)[None] < 1 + jnp.arange(count)[:, None] % GUESS
    encode = lambda *sample: model.encode(*sample[:3], tokens_mask=sample[3])
    return jax.vmap(encode)(times, states, tokens, mask)


@eqx.filter_jit
def searched(model, memory, constraint, width, length, exponent=1.0):
    search = lambda m: prose.beam(model, m, constraint, width=width, max_tokens=length, length_penalty=exponent)
    return jax.vmap(search)(memory)


def all_sequences(model, memory, words, length):
    """Every sequence up to its end or to `length`, and its log p: {tuple of tokens: log p}, for each sample."""
    rows = jnp.asarray(list(itertools.product(range(words), repeat=length)))
    before = jnp.concatenate((jnp.full((len(rows), 1), BEGIN), rows[:, :-1]), axis=1)

    @eqx.filter_jit
    def chances(model, memory):
        logits = jax.vmap(lambda m: jax.vmap(lambda row: model.logits(m, row))(before))(memory)
        chosen = jnp.broadcast_to(rows[None, :, :, None], (*logits.shape[:-1], 1))
        return jnp.take_along_axis(jax.nn.log_softmax(logits), chosen, axis=-1)[..., 0]

    samples = []
    for table in np.asarray(chances(model, memory)):
        found = {}
        for row, chance in zip(np.asarray(rows).tolist(), table, strict=True):
            stop = row.index(END) + 1 if END in row else length
            found[tuple(row[:stop])] = chance[:stop].sum()
        samples.append(found)
    return samples


@pytest.mark.parametrize("exponent", [0.0, 1.0])
def test_a_beam_that_holds_all_sequences_finds_all_of_them(small, exponent):
    length = 4
    with jax.enable_x64(True):
        memory = eqx.filter_jit(encode)(small, 2)
        width = FEW**length
        best = searched(small, memory, prose.Unconstrained(BEGIN, END), width, length, exponent)
        for i, found in enumerate(all_sequences(small, memory, FEW, length)):
            scores = {tokens: chance / len(tokens) ** exponent for tokens, chance in found.items()}
            ranking = sorted(scores, key=scores.get, reverse=True)
            count = len(ranking)
            assert count < width  # some slots remain empty
            np.testing.assert_allclose(best.scores[i, :count], [scores[t] for t in ranking], rtol=1e-12)
            assert (best.scores[i, count:] == -np.inf).all()
            assert (best.lengths[i, count:] == 0).all()
            for row, number, tokens in zip(best.tokens[i], best.lengths[i], ranking, strict=False):
                assert tuple(row[:number].tolist()) == tokens
                assert (row[number:] == END).all()


def test_a_narrow_beam_is_the_search_by_lists(small):
    length, width = 6, 3
    with jax.enable_x64(True):
        memory = eqx.filter_jit(encode)(small, 3)
        best = searched(small, memory, prose.Unconstrained(BEGIN, END), width, length)
        logits = eqx.filter_jit(lambda model, memory, row: jax.nn.log_softmax(model.logits(memory, row)))
        stopped = 0
        for i in range(3):
            one = jax.tree.map(lambda leaf, i=i: leaf[i], memory)
            alive, ended = [((), 0.0)], []
            for position in range(length):
                options = []
                for tokens, chance in alive:
                    row = np.zeros(length, int)
                    row[: position + 1] = BEGIN, *tokens
                    gains = np.asarray(logits(small, one, jnp.asarray(row)))[position]
                    options += [((*tokens, word), chance + gains[word]) for word in range(FEW)]
                options = sorted(options, key=lambda o: -o[1])[: width - len(ended)]
                ended += [o for o in options if o[0][-1] == END]
                alive = [o for o in options if o[0][-1] != END]
            stopped += len(ended)
            expected = sorted(ended + alive, key=lambda o: -o[1] / len(o[0]))
            np.testing.assert_allclose(best.scores[i], [c / len(t) for t, c in expected], rtol=1e-12)
            assert [row[:n] for row, n in zip(best.tokens[i].tolist(), best.lengths[i], strict=True)] == [
                list(tokens) for tokens, _ in expected
            ]
        assert 0 < stopped < 9


@pytest.mark.parametrize("make", [prose.prose_ode, prose.improved_ode], ids=["ode", "improved"])
def test_width_1_is_greedy(make):
    length, end = 7, 3  # some equations end with it and some do not
    with jax.enable_x64(True):
        model = model_of(make, 11)
        memory = eqx.filter_jit(encode)(model, 5)
        write = lambda m: prose.greedy(model, m, bos=BEGIN, eos=end, max_tokens=length)
        expected = jax.jit(jax.vmap(write))(memory)
        best = searched(model, memory, prose.Unconstrained(BEGIN, end), 1, length)
        np.testing.assert_array_equal(best.tokens[:, 0], expected)
        numbers = [row.index(end) + 1 if end in row else length for row in expected.tolist()]
        np.testing.assert_array_equal(best.lengths[:, 0], numbers)
        assert len(set(numbers)) > 1


def test_a_batch_is_each_sample_alone(small):
    with jax.enable_x64(True):
        memory = eqx.filter_jit(encode)(small, 3)
        constraint = prose.Unconstrained(BEGIN, END)
        batch = searched(small, memory, constraint, 3, 6)
        for i in range(3):
            alone = searched(small, jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], memory), constraint, 3, 6)
            np.testing.assert_array_equal(batch.tokens[i], alone.tokens[0])
            np.testing.assert_allclose(batch.scores[i], alone.scores[0], rtol=1e-12)


def test_keys_and_values_of_the_memory_are_shared_by_all_slots(small):
    width, length = 7, 11
    with jax.enable_x64(True):
        memory = jax.eval_shape(lambda m: jax.tree.map(lambda leaf: leaf[0], encode(m, 1)), small)
        search = lambda m: prose.beam(small, m, prose.Unconstrained(BEGIN, END), width=width, max_tokens=length)
        program = str(jax.make_jaxpr(search)(memory))
        rows = jax.eval_shape(small.symbol_decoder.sees, memory)[0].shape[0]
        size = WIDTH // HEADS
        assert f"f64[{width},{HEADS},{length},{size}]" in program  # those of the tokens
        assert f"f64[{HEADS},{rows},{size}]" in program
        assert f"f64[{width},{HEADS},{rows},{size}]" not in program


def allowed(grammar, rows):
    """For each row of ids, in how many of its tokens from the first on the grammar agrees."""

    def step(state, token):
        progress, agrees, remaining = state
        agrees &= jnp.broadcast_to(grammar.mask(progress, remaining), (len(SMALL),))[token]
        return (grammar.next(progress, token), agrees, remaining - 1), agrees

    start = grammar.start(), True, rows.shape[1]
    follow = lambda row: jax.lax.scan(step, start, row)[1].sum()
    return np.asarray(jax.jit(jax.vmap(follow))(rows))


def test_the_grammar_allows_what_the_parser_reads_and_no_beginning_of_anything_else():
    longest, texts = 5, {()}
    for words in (("add", "u_0", "u_1", "|", "pow"), ("neg", "u_0", "|", "+", "E0", "N3")):
        texts |= {tokens for count in range(longest + 1) for tokens in itertools.product(words, repeat=count)}
    rows = np.array([[*SMALL.encode(tokens), *[SMALL.eos] * (longest + 1 - len(tokens))] for tokens in texts])
    # The parser knows `pow`, which is no operator of this vocabulary, and it knows no dimension.
    sizes = [len(prose.read_strictly(tokens, SMALL) or ()) if "pow" not in tokens else 0 for tokens in texts]
    for dimension in (None, 1, 2):
        counts, states = (1, 2) if dimension is None else (dimension,), {"u_0", "u_1"} if dimension != 1 else {"u_0"}
        systems = {
            tokens
            for tokens, size in zip(texts, sizes, strict=True)
            if size in counts and {token for token in tokens if token[0] == "u"} <= states
        }
        agreed = allowed(prose.Grammar(SMALL, dimension), jnp.asarray(rows))
        ended = {tokens for tokens, count in zip(texts, agreed, strict=True) if count == longest + 1}
        assert ended == systems
        assert len(systems) > 8
        # A rest always fits: what is allowed of any row is the beginning of a system.
        begun = {tokens[:count] for tokens, count in zip(texts, agreed, strict=True)}
        assert begun <= {tokens[:i] for tokens in systems for i in range(len(tokens) + 1)}


@eqx.filter_jit
def random_tokens(constraint, words, length, keys):
    """Tokens drawn by random logits."""

    def one(key):
        def step(state, key):
            progress, token, remaining = state
            logits = 3 * jax.random.normal(key, (words,))
            may = jnp.broadcast_to(constraint.mask(progress, remaining), (words,))
            token = jnp.where(token == constraint.eos, token, jnp.argmax(jnp.where(may, logits, -jnp.inf)))
            return (constraint.next(progress, token), token, remaining - 1), token

        start = constraint.start(), jnp.asarray(constraint.bos), length
        return jax.lax.scan(step, start, jax.random.split(key, length))[1]

    return jax.vmap(one)(keys)


@pytest.mark.parametrize(
    ("words", "dimension", "others"),
    [(ODE, 3, ()), (symbolic.pde_vocabulary(), None, ("t", "x", "ut_0", "uxx_0"))],
    ids=["ode", "pde"],
)
def test_all_tokens_of_random_logits_are_systems(words, dimension, others):
    keys = jax.random.split(jax.random.key(0), 150)
    rows = random_tokens(prose.Grammar(words, dimension, others=others), len(words), 30, keys)
    systems = prose.equations(rows, words)
    assert all(system is not None and len(system) == (dimension or 1) for system in systems)
    assert len(set(systems)) > 70
    nodes = [node for system in systems for tree in system for node in symbolic.walk(tree)]
    assert {type(node) for node in nodes} == {symbolic.Apply, symbolic.Variable, symbolic.Integer, symbolic.Real}
    names = {f"u_{i}" for i in range(dimension or 1)} | set(others)
    assert {node.name for node in nodes if isinstance(node, symbolic.Variable)} == names
    assert {node.head for node in nodes if isinstance(node, symbolic.Apply)} == set(words.operators)
    free = random_tokens(prose.Unconstrained(words.bos, words.eos), len(words), 30, keys)
    assert sum(system is not None for system in prose.equations(free, words)) < 15


def test_a_constrained_beam_finds_all_systems_by_their_probability():
    numbers = [[sign, f"N{i}", "E0"] for sign in "+-" for i in range(10)]
    sums = [
        ["add", "u_0", "u_0"],
        ["neg", "add", "u_0", "u_0"],
        ["add", "neg", "u_0", "u_0"],
        ["add", "u_0", "neg", "u_0"],
    ]
    texts = [[*["neg"] * n, "u_0"] for n in range(4)] + sums + numbers + [["neg", *number] for number in numbers]
    width, length = 60, 5
    padded = [[*SMALL.encode(tokens), *[SMALL.eos] * (length - len(tokens))] for tokens in texts]
    with jax.enable_x64(True):
        model = model_of(prose.improved_ode, len(SMALL), scale=2.0)
        memory = eqx.filter_jit(encode)(model, 2)
        best = jax.tree.map(np.asarray, searched(model, memory, prose.Grammar(SMALL, 1), width, length, 0.0))
        rows = jnp.asarray(np.array(padded))
        before = jnp.concatenate((jnp.full((len(rows), 1), SMALL.bos), rows[:, :-1]), axis=1)
        logits = eqx.filter_jit(lambda m, x: jax.vmap(lambda m: jax.vmap(lambda row: model.logits(m, row))(x))(m))
        chances = np.asarray(jax.nn.log_softmax(logits(memory, before)))
    for i, table in enumerate(chances):
        sums = [
            sum(table[k, j, token] for j, token in enumerate(row[: len(tokens) + 1]))
            for k, (tokens, row) in enumerate(zip(texts, padded, strict=True))
        ]
        order = np.argsort(sums)[::-1]
        assert prose.equations(best.tokens[i, : len(texts)], SMALL) == [
            prose.read_strictly(texts[k], SMALL) for k in order
        ]
        np.testing.assert_allclose(best.scores[i, : len(texts)], np.array(sums)[order], rtol=1e-12)
        assert (best.scores[i, len(texts) :] == -np.inf).all()


def test_every_sample_may_have_its_own_dimension():
    with jax.enable_x64(True):
        model = in_precision(model_of(prose.improved_ode, len(ODE), scale=3.0), jnp.float32)
    dimensions = jnp.array([1, 2, 3, 2])

    @eqx.filter_jit
    def search(model):
        memory = encode(model, 4)
        one = lambda m, d: prose.beam(model, m, prose.Grammar(ODE, d), width=3, max_tokens=20)
        return jax.vmap(one)(memory, dimensions)

    best = search(model)
    assert best.scores.dtype == jnp.float32
    for tokens, dimension in zip(best.tokens, dimensions.tolist(), strict=True):
        for system in prose.equations(tokens, ODE):
            assert system is not None
            assert len(system) == dimension
            names = {
                node.name for tree in system for node in symbolic.walk(tree) if isinstance(node, symbolic.Variable)
            }
            assert names <= {f"u_{i}" for i in range(dimension)}


def test_what_cannot_be_written_is_named(small):
    with jax.enable_x64(True):
        memory = jax.eval_shape(lambda m: jax.tree.map(lambda leaf: leaf[0], encode(m, 1)), small)
        with pytest.raises(ValueError, match=r"Expected a width of at least 1, got 0"):
            prose.beam(small, memory, prose.Unconstrained(BEGIN, END), width=0, max_tokens=3)
    with pytest.raises(ValueError, match=r"at least 1 token, got 0. Give a larger length"):
        prose.Unconstrained(BEGIN, END).check(0)
    prose.Grammar(ODE, 3).check(6)
    with pytest.raises(ValueError, match=r"at least 6 tokens, two for each component, got 5. Give a larger length"):
        prose.Grammar(ODE, 3).check(5)
    with pytest.raises(ValueError, match=r"dimension from 1 to 3, the state variables of the vocabulary, got 4"):
        prose.Grammar(ODE, 4)
    with pytest.raises(ValueError, match=r"Expected variables of the vocabulary, got x, \|. Leave them out"):
        prose.Grammar(ODE, 3, others=("x", "|"))
