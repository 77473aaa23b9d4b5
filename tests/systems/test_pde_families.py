"""The families of PROSE-PDE: their equations on their own solutions, their constants and their tokens."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.prose import skeleton_equations
from sciml.symbolic import (
    NumberCodec,
    evaluate,
    parameters,
    pde_vocabulary,
    skeleton,
    system_from_tokens,
    system_to_tokens,
    with_parameters,
)
from sciml.systems import PDE_FAMILIES, Evolutions, PdeMixture

POINTS, FRAMES, LENGTH, PART = 96, 48, 2.0, 4
STEP = 2.0 / PART / FRAMES  # of the frames, in the time of the equations
CENTRES = (np.arange(POINTS) + 0.5) * LENGTH / POINTS
# Numbers that make every term of an equation matter, where the nominal ones do not; the potential has the period 2.
DRAWN = {
    "heat": (0.05,),
    "porous_medium": (3.0,),
    "Klein_Gordon": (1.1, 1.3),
    "Sine_Gordon": (3.0,),
    "cahnhilliard_1D": (0.3,),
    "kdv": (0.15,),
    "diff_linearreact": (0.05, 0.8),
    "diff_logisreact": (0.05, 1.2),
    "diff_squarelogistic": (0.05, 2.0),
    "diff_bistable": (0.05, 2.0, 0.3),
    "burgers": (1.2, 0.4),
    "conservation_linear": (1.2, 0.4),
    "conservation_cubic": (1.2, 0.4),
    "conservation_sine": (1.2, 0.4),
    "fplanck": (5e-21, 1e-6 / np.pi, 300.0, 1e-3),
}
# Slopes at extrema are limited to the first order; the steepest solution has 0.017.
FINITE_VOLUMES = 0.04


def in_space(u, order):
    wave = 2j * np.pi * np.fft.fftfreq(POINTS, LENGTH / POINTS)
    return np.fft.ifft(np.fft.fft(u) * wave.reshape(1, -1) ** order).real


def in_time(u, order):
    """Centred differences of the fourth order at all frames but two at each end."""
    stencil = {1: (1, -8, 0, 8, -1), 2: (-1, 16, -30, 16, -1)}[order]
    shifted = [weight * u[i : len(u) - 4 + i] for i, weight in enumerate(stencil)]
    return np.sum(shifted, axis=0) / 12 / STEP**order


def solution(family, system):
    """The values of all variables of a residual on the family's own solution of an equation."""
    start = 0.5 + 0.3 * np.sin(np.pi * CENTRES) + 0.1 * np.cos(2 * np.pi * CENTRES + 1)
    settings = {"length": LENGTH, "time": family.end / PART, "frames": FRAMES}  # before there are shocks
    with jax.enable_x64(True):
        constants = jnp.asarray(family.constants_of(system))
        u = np.asarray(jax.jit(lambda u, c: family.solve(u, *c, **settings))(jnp.asarray(start), constants))
    inner = u[2:-2]
    values = {"u_0": inner, "x": np.tile(CENTRES, (len(inner), 1)), "ut_0": in_time(u, 1), "utt_0": in_time(u, 2)}
    return values | {f"u{'x' * order}_0": in_space(inner, order) for order in range(1, 5)}


@pytest.mark.parametrize("name", PDE_FAMILIES)
def test_solutions_satisfy_the_equation_and_no_other(name):
    family = PDE_FAMILIES[name]
    system = family.system(DRAWN.get(name))
    values = solution(family, system)
    norm = lambda system: np.linalg.norm(evaluate(system[0], values, np))
    numbers = parameters(system)
    order = 1 + ("utt_0" in system_to_tokens(system))
    scale = np.linalg.norm((2 / family.end) ** order * values[f"u{'t' * order}_0"])
    assert norm(system) < FINITE_VOLUMES * scale
    if name in ("heat", "Klein_Gordon", "Sine_Gordon", "kdv", "advection", "wave"):
        assert norm(system) < 1e-4 * scale  # of fourth order in time, of all orders in space
    for i in range(len(numbers)):
        # A wrong sign or factor would be a larger change, as residuals are linear in the factors of their terms.
        others = with_parameters(system, numbers * np.where(np.arange(len(numbers)) == i, 1.2, 1))
        assert norm(others) > max(3 * norm(system), FINITE_VOLUMES * scale)


@pytest.mark.parametrize("name", PDE_FAMILIES)
def test_constants_fill_their_interval_and_have_exact_tokens(name):
    family, codec, vocabulary = PDE_FAMILIES[name], NumberCodec(), pde_vocabulary()
    mixture = PdeMixture(families=(name,), spread=0.2)
    systems = [mixture.system(name, (3, i, 0)) for i in range(80)]
    assert len({skeleton(system) for system in systems}) == 1
    drawn = np.array([family.constants_of(system) for system in systems])
    for system, constants in zip(systems[:9], drawn, strict=False):
        tokens = system_to_tokens(system)
        assert vocabulary.decode(vocabulary.encode(tokens)) == tokens
        assert system_from_tokens(tokens) == system  # what is read has the numbers that are solved with
        assert system_from_tokens(skeleton_equations(tokens)) == skeleton(system)
        assert all(codec.rounded(value) == value for value in constants)
        assert set(constants) <= set(parameters(system))
    if name == "porous_medium":
        assert set(map(tuple, drawn)) == {(2, 1, 2, 0), (3, 2, 6, 1), (4, 3, 12, 2)}
    if name == "diff_bistable":
        assert 0 <= drawn[:, 2].min() < 0.1 < 0.9 < drawn[:, 2].max() <= 1
    ratio = drawn[:, :1] / np.array(family.constants_of(family.system()))[:1]
    if name in ("heat", "kdv", "burgers", "diff_logisreact"):
        power = 2 if name == "kdv" else 1  # its constant is a square
        assert 0.79**power < ratio.min() < 0.85**power < 1.15**power < ratio.max() < 1.21**power


def test_the_tokens_are_the_published_ones_but_for_signs(reference):
    published = json.loads((reference / "prose" / "pde_2to2_index.json").read_text())["texts"]
    drawn = (("heat", (3e-3,)), ("Sine_Gordon", (1.02,)), ("burgers", (1.03, 0.01)))
    ours = [" ".join(system_to_tokens(PDE_FAMILIES[name].system(numbers))) for name, numbers in drawn]
    assert ours[0] == published[0]
    unsigned = lambda text: text.replace("sub", "add")
    assert list(map(unsigned, ours)) == list(map(unsigned, published))


def test_the_brownian_particle_in_micrometres():
    d, a, w = PDE_FAMILIES["fplanck"].constants_of(PDE_FAMILIES["fplanck"].system())
    drag = 6 * np.pi * 1e-3 * 1e-7
    # Three digits are within half a percent.
    np.testing.assert_allclose((d, a, w), (1.380649e-23 * 300 / drag * 1e12, 5e-21 / 1e-7 / drag * 1e6, 10), rtol=5e-3)


def test_bad_settings():
    with pytest.raises(ValueError, match=r"burgers is drawn from 2 numbers, got 1\. Give as many .* \(1\.0, 0\.01\)"):
        PDE_FAMILIES["burgers"].system((1.0,))
    with pytest.raises(ValueError, match=r"There is no family thomas\. Choose from heat, porous_medium"):
        PdeMixture(families=("thomas",))
    with pytest.raises(ValueError, match="at least one family, got none"):
        PdeMixture(families=())
    with pytest.raises(ValueError, match="Expected a spread from 0 to less than 1"):
        PdeMixture(spread=1.0)
    for settings in (
        {"initial_conditions": 0},
        {"initial_conditions": 3, "candidates": 2},
        {"frames": 1},
        {"points": 7},
    ):
        with pytest.raises(
            ValueError, match="Expected 1 <= initial_conditions <= candidates, frames >= 2 and points >= 8"
        ):
            Evolutions(**settings)
