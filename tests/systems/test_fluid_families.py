"""The equations of flows: words, and that the solvers' own solutions satisfy what is written."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml import symbolic, systems
from sciml.pdes import FitzHughNagumo, NavierStokes, ShallowWater, periodic_field, velocity

VOCABULARY = symbolic.fluid_vocabulary()
CODEC = symbolic.NumberCodec()
ARITY = {"dt": 1, "D": 1, "D2": 1, "diverg": 1, "pow3": 1, "add": 2, "sub": 2, "mul": 2}
FIELDS = {"U", "h", "p", "u", "v", "F"}
FAMILIES = pytest.mark.parametrize("name", systems.FLUID_FAMILIES)


def middle(name):
    """Constants in the middle of their ranges."""
    family = systems.FLUID_FAMILIES[name]
    return family.drawn([0.5] * len(family.constants))


def grown(words, apply, leaf):
    """The value of the expression that begins a list of prefix words, and the words behind it."""
    word, *rest = words
    if word in "+-":
        return CODEC.decode(words[:3]), words[3:]
    if word not in ARITY:
        return leaf(word), rest
    arguments = []
    for _ in range(ARITY[word]):
        value, rest = grown(rest, apply, leaf)
        arguments.append(value)
    return apply(word, *arguments), rest


def parts(words):
    """The parts of a system, and what stands behind `--`."""
    text, boundary = " ".join(words).split(" -- ")
    return [part.split() for part in text.split(" | ")], boundary.split()


@FAMILIES
def test_equations_are_words_of_the_vocabulary_and_can_be_read(name):
    words = systems.FLUID_FAMILIES[name].tokens(middle(name))
    assert VOCABULARY.decode(VOCABULARY.encode(words)) == words
    assert 23 <= len(words) <= 78  # the published lengths
    equations, boundary = parts(words)
    seen = set()
    for part in equations:
        _, rest = grown(part, lambda word, *arguments: None, seen.add)
        assert not rest
    assert seen <= FIELDS
    assert dict(zip(boundary[::2], boundary[1::2], strict=True)) == dict.fromkeys(seen - {"p", "F"}, "periodic")


@FAMILIES
def test_constants_are_in_the_words(name):
    family = systems.FLUID_FAMILIES[name]
    names, low, high = zip(*family.constants, strict=True)
    np.testing.assert_allclose(family.drawn([0.0] * len(names)), low, rtol=5e-3)  # three digits
    np.testing.assert_allclose(family.drawn([1 - 1e-9] * len(names)), high, rtol=5e-3)
    np.testing.assert_allclose(middle(name), np.sqrt(np.multiply(low, high)), rtol=5e-3)
    plain = family.tokens(middle(name))
    for i in range(len(names)):
        moved = [0.5] * len(names)
        moved[i] = 0.8
        constants = family.drawn(moved)
        words = family.tokens(constants)
        assert words != plain
        numbers = [CODEC.decode(words[at : at + 3]) for at, word in enumerate(words) if word in "+-"]
        assert set(constants) <= set(numbers)
    with pytest.raises(ValueError, match=rf"Expected the constants {', '.join(names)}, got 9 numbers. Give each one"):
        family.tokens([1.0] * 9)


class Terms:
    """Values of expressions on frames `(time, x, y)`; a vector has one axis of components in front, a tensor two."""

    def __init__(self, fields, interval, length):
        self.fields, self.interval, self.length = fields, interval, length
        self.rate = 0.0  # mean of the largest derivative in time

    def along(self, x, axis, power=1):
        n = x.shape[-1]
        k = 2j * np.pi / self.length * np.fft.fftfreq(n, 1 / n)
        return np.fft.ifft((k if axis else k[:, None]) ** power * np.fft.fft(x, axis=axis - 2), axis=axis - 2).real

    def apply(self, word, *arguments):
        return getattr(self, word)(*arguments)

    def dt(self, x):
        rate = np.gradient(x, self.interval, axis=-3)
        self.rate = max(self.rate, np.abs(rate).mean())
        return rate

    def D(self, x):
        return np.stack([self.along(x, axis) for axis in (0, 1)])

    def D2(self, x):
        return sum(self.along(x, axis, 2) for axis in (0, 1))

    def diverg(self, x):
        return sum(self.along(x[axis], axis) for axis in (0, 1))

    def pow3(self, x):
        return x**3

    def add(self, x, y):
        if (np.ndim(x), np.ndim(y)) == (5, 3):  # a pressure is the same in all directions
            y = np.eye(2).reshape(2, 2, 1, 1, 1) * y
        return x + y

    def sub(self, x, y):
        return x - y

    def mul(self, x, y):
        kinds = np.ndim(x), np.ndim(y)
        if kinds == (4, 5):  # advection
            return sum(x[i] * y[i] for i in (0, 1))
        return x[:, None] * y[None] if kinds == (4, 4) else x * y


def residuals(name, constants, terms):
    """What the words say on the frames without the first and the last, over the mean derivative in time."""
    equations, _ = parts(systems.FLUID_FAMILIES[name].tokens(constants))
    found = [grown(part, terms.apply, terms.fields.get)[0][..., 1:-1, :, :] for part in equations]
    return [value / terms.rate for value in found]


def water(constants):
    problem = ShallowWater(resolution=48, frames=5, interval=0.02)
    start = problem.waves(jax.random.key(0), height=0.1, speed=0.1)
    frames = np.asarray(jax.jit(problem.solve)(start, gravity=constants[0])).transpose(1, 0, 2, 3)
    return Terms({"U": frames[:2], "h": frames[2]}, problem.interval, problem.length)


def vortices(constants):
    problem = NavierStokes(resolution=24, frames=5, interval=0.01, step=0.01)
    w = 10 * periodic_field(jax.random.key(0), (24, 24), alpha=4.0, tau=7.0)
    found = jax.jit(problem.vorticity)(w, viscosity=constants[0], forcing=constants[1])
    x, y = np.meshgrid(*problem.grid.points(), indexing="ij")
    phase = 2 * np.pi * (x + y)
    force = np.asarray(velocity(jnp.asarray(np.sin(phase) + np.cos(phase))))
    frames = np.asarray(jax.vmap(velocity)(found)).transpose(1, 0, 2, 3)
    fields = {"U": frames, "p": np.zeros(frames.shape[1:]), "F": np.broadcast_to(force[:, None], frames.shape)}
    return Terms(fields, problem.interval, 1.0)


def reaction(constants):
    problem = FitzHughNagumo(resolution=40, frames=5, interval=0.02, step=0.02, tau=6.0)
    start = 3 * problem.initial(jax.random.key(0))
    given = {"diffusivities": jnp.array(constants[:2]), "threshold": constants[2]}
    u, v = np.asarray(jax.jit(problem.solve)(start, **given)).transpose(1, 0, 2, 3)
    return Terms({"u": u, "v": v}, problem.interval, problem.length)


def solenoidal(force):
    """A field `(2, time, x, y)` without its gradient part, which the pressure takes."""
    n = force.shape[-1]
    k = np.stack(np.meshgrid(*[np.fft.fftfreq(n, 1 / n)] * 2, indexing="ij"))
    squared = np.maximum((k**2).sum(axis=0), 1)
    modes = np.fft.fft2(force)
    along = sum(k[i] * modes[i] for i in (0, 1)) / squared
    return np.fft.ifft2(modes - k[:, None] * along[None]).real


@pytest.mark.parametrize(("name", "solve"), [("waves", water), ("vortices", vortices), ("reaction", reaction)])
def test_solutions_satisfy_what_is_written(name, solve):
    # Central differences in time; limited slopes of the finite volumes for water.
    tolerance = {"waves": 0.03, "vortices": 2e-3, "reaction": 2e-3}[name]

    def errors(constants):
        found = residuals(name, constants, terms)
        if name == "vortices":
            found[0] = solenoidal(found[0])
        return np.array([np.abs(value).mean() for value in found])

    with jax.enable_x64(True):
        constants = middle(name)
        terms = solve(constants)
        found = errors(constants)
        assert (found < tolerance).all()
        for i in range(len(constants)):  # each of the constants matters
            other = list(constants)
            other[i] *= 5
            assert errors(other).max() > 10 * tolerance


def test_the_two_kinds_of_water_have_one_equation():
    dam, waves = systems.FLUID_FAMILIES["dam_break"], systems.FLUID_FAMILIES["waves"]
    assert dam.equation == waves.equation
    assert dataclasses.replace(dam, initial=waves.initial) == waves
