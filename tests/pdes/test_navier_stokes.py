import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.cli import main
from sciml.data import cached, draw, joined_frames, read
from sciml.pdes import NavierStokes, Scheme, periodic_field, velocity


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def solve(w, **settings):
    problem = NavierStokes(resolution=len(w), **settings)
    return np.asarray(jax.jit(problem.vorticity)(jnp.asarray(w)))


def axes(n):
    return np.meshgrid(np.arange(n) / n, np.arange(n) / n, indexing="ij")


def random_field(n, seed=0):
    """A smooth field; the size makes advection matter within the unit of time."""
    return np.asarray(16 * periodic_field(jax.random.key(seed), (n, n), alpha=4.0, tau=7.0))


def relative(actual, expected):
    return np.linalg.norm(actual - expected) / np.linalg.norm(expected)


def spectrum(n):
    k = 2 * np.pi * np.fft.fftfreq(n, 1 / n)
    return k[:, None] * np.ones(n), k * np.ones((n, 1))


def test_the_published_scheme_step_by_step(x64):
    n, nu, dt, steps = 18, 2e-3, 1e-2, 30
    kx, ky = spectrum(n)
    squared = kx**2 + ky**2
    keep = (np.abs(kx) < 2 * np.pi * n / 3) & (np.abs(ky) < 2 * np.pi * n / 3)
    field = lambda modes: np.fft.ifft2(modes).real
    x, y = axes(n)
    forcing = np.fft.fft2(0.5 * (np.sin(2 * np.pi * (x + y)) + np.cos(2 * np.pi * (x + y))))
    start = random_field(n)
    w = np.fft.fft2(start) * keep
    for _ in range(steps):
        stream = w / np.where(squared == 0, 1, squared)
        u, v = field(1j * ky * stream), field(-1j * kx * stream)
        advection = keep * np.fft.fft2(u * field(1j * kx * w) + v * field(1j * ky * w))
        w = ((1 - dt * nu * squared / 2) * w + dt * (forcing - advection)) / (1 + dt * nu * squared / 2)
    found = solve(start, frames=2, interval=dt * steps / 2, viscosity=nu, forcing=0.5, scheme=Scheme.EULER, step=dt)
    assert relative(found[1], start) > 0.1  # the field moves
    np.testing.assert_allclose(found[1], field(w), atol=1e-12)  # rounding


@pytest.mark.parametrize("scheme", Scheme)
def test_taylor_green_vortices_decay(scheme, x64):
    x, y = axes(24)
    w = np.sin(4 * np.pi * x) * np.cos(6 * np.pi * y)
    found = solve(w, frames=3, interval=0.2, viscosity=0.02, forcing=0.0, scheme=scheme, step=0.01)
    rate = 0.02 * (4**2 + 6**2) * np.pi**2
    exact = np.exp(-rate * 0.2 * np.arange(1, 4))[:, None, None] * w
    # Advection vanishes; Crank-Nicolson has the relative error (rate dt)^3 / 12 in each of 60 steps.
    np.testing.assert_allclose(found, exact, atol=1e-12 if scheme is Scheme.ETDRK4 else 60 * (rate * 0.01) ** 3 / 12)


def test_a_forced_shear_flow(x64):
    x, y = axes(12)
    phase = 2 * np.pi * (x + y)
    forcing, nu, t = 0.7 * (np.sin(phase) + np.cos(phase)), 0.01, 0.5 * np.arange(1, 4)[:, None, None]
    rate = 8 * np.pi**2 * nu
    w = np.cos(phase) - 0.3 * np.sin(2 * phase)
    exact = (
        np.exp(-rate * t) * np.cos(phase)
        - 0.3 * np.exp(-4 * rate * t) * np.sin(2 * phase)
        + forcing * (1 - np.exp(-rate * t)) / rate
    )
    np.testing.assert_allclose(
        solve(w, frames=3, interval=0.5, viscosity=nu, forcing=0.7, step=0.1), exact, atol=1e-12
    )  # no advection, constant forcing: exact in time


@pytest.mark.parametrize(("scheme", "order", "step"), [(Scheme.EULER, 1, 1e-3), (Scheme.ETDRK4, 4, 5e-2)])
def test_order_in_time(scheme, order, step, x64):
    w = random_field(18)
    settings = {"frames": 2, "interval": 0.5, "viscosity": 1e-3}
    exact = solve(w, step=2e-3, **settings)
    coarse, fine = (relative(solve(w, scheme=scheme, step=s, **settings), exact) for s in (step, step / 2))
    assert np.log2(coarse / fine) == pytest.approx(order, abs=0.2)  # higher orders of the coarser step


def test_the_default_scheme_replaces_the_published_one(x64):
    w = np.asarray(periodic_field(jax.random.key(0), (32, 32), alpha=2.5, tau=7.0))
    settings = {"frames": 2, "interval": 0.5}
    exact = solve(w, step=1e-3, **settings)
    # At t = 1 on this grid: first order with dt = 1e-4, fourth order with dt = 5e-3 and eight times that.
    assert relative(solve(w, scheme=Scheme.EULER, step=1e-4, **settings), exact) < 3e-5
    assert relative(solve(w, **settings), exact) < 1e-9
    assert relative(solve(w, step=4e-2, **settings), exact) < 3e-7


def test_energy_and_enstrophy_are_conserved_without_viscosity(x64):
    w = random_field(24)
    kx, ky = spectrum(24)
    squared = np.where(kx**2 + ky**2 == 0, np.inf, kx**2 + ky**2)
    frames = solve(w + 0.2, frames=4, interval=0.5, viscosity=0.0, forcing=0.0, step=0.01)  # the mean is removed
    density = np.abs(np.fft.fft2(frames)) ** 2
    assert relative(frames[0], frames[-1]) > 0.3
    np.testing.assert_allclose(frames.mean(axis=(1, 2)), 0, atol=1e-14)
    for invariant in (density.sum(axis=(1, 2)), (density / squared).sum(axis=(1, 2))):
        np.testing.assert_allclose(invariant, invariant[0], rtol=1e-6)  # of the order dt^4 of the step


def test_mirrored_flows(x64):
    w = random_field(18)
    settings = {"frames": 2, "interval": 0.3, "viscosity": 1e-3, "step": 0.02}
    found, mirrored = solve(w, forcing=0.4, **settings), solve(-w.T, forcing=-0.4, **settings)
    np.testing.assert_allclose(mirrored, -found.transpose(0, 2, 1), atol=1e-13)
    assert relative(found[1].T, found[1]) > 0.3


def test_spectral_accuracy_in_space(x64):
    def resample(n):
        modes = np.zeros((n, n), complex)
        m = np.fft.fftfreq(24, 1 / 24).astype(int)
        modes[np.ix_(m % n, m % n)] = np.fft.fft2(w) * (n / 24) ** 2
        return np.fft.ifft2(modes).real

    w = random_field(24)
    w = np.fft.ifft2(np.fft.fft2(w) * (np.hypot(*spectrum(24)) < 2 * np.pi * 6)).real
    settings = {"frames": 2, "interval": 0.25, "viscosity": 5e-3, "step": 0.01}
    exact = solve(resample(96), every=8, **settings)
    errors = [relative(solve(resample(n), every=n // 12, **settings), exact) for n in (24, 48)]
    assert errors[1] < errors[0] ** 2  # twice the modes square an exponentially small error
    assert errors[1] < 1e-4


def test_constants_may_differ_between_trajectories(x64):
    problem = NavierStokes(resolution=12, frames=2, interval=0.3, step=0.05)
    starts, viscosities, forcings = jnp.stack([random_field(12), random_field(12, 1)]), (1e-3, 5e-2), (0.2, 0.9)
    apply = jax.vmap(lambda w, nu, f: problem.vorticity(w, viscosity=nu, forcing=f))
    found = jax.jit(apply)(starts, jnp.array(viscosities), jnp.array(forcings))
    for one, w, nu, f in zip(found, starts, viscosities, forcings, strict=True):
        settings = {"frames": 2, "interval": 0.3, "step": 0.05, "viscosity": nu, "forcing": f}
        np.testing.assert_allclose(one, solve(w, **settings), atol=1e-12)  # rounding


def test_the_velocity_of_a_vorticity(x64):
    x, y = np.meshgrid(np.arange(12) / 12, np.arange(16) / 16, indexing="ij")
    a, b = 2 * np.pi * x, 4 * np.pi * y
    found = velocity(jnp.asarray(20 * np.pi**2 * np.sin(a) * np.cos(b)))  # of the stream function sin(a) cos(b)
    expected = (-4 * np.pi * np.sin(a) * np.sin(b), -2 * np.pi * np.cos(a) * np.cos(b))
    np.testing.assert_allclose(found, expected, atol=1e-13)
    assert velocity(jnp.ones((4, 6), jnp.float32)).dtype == jnp.float32


SMALL = NavierStokes(resolution=16, every=2, frames=4, interval=0.5, step=0.05)


def test_samples_are_trajectories(tmp_path):
    pairs = cached(SMALL, tmp_path, n=3, seed=1)
    assert pairs.grid == SMALL.grid
    assert pairs.grid.points()[0] == pytest.approx(np.arange(8) / 8)
    assert pairs.inputs == ("vorticity",)
    assert pairs.outputs == ("vorticity t=1", "vorticity t=1.5", "vorticity t=2")
    assert pairs.attributes["settings"]["scheme"] == "ETDRK4"
    with jax.enable_x64(True):
        key = jax.random.fold_in(jax.random.key(1), 2)
        frames = jax.jit(lambda key: SMALL.vorticity(periodic_field(key, (16, 16), alpha=2.5, tau=7.0)))(key)
    np.testing.assert_allclose(joined_frames(pairs)[2, :, 0], frames, atol=1e-6)  # float32 of values up to 1
    np.testing.assert_array_equal(cached(SMALL, tmp_path, n=3, seed=1).y, pairs.y)


def test_the_command_line_selects_the_scheme(tmp_path):
    options = "--n 2 --resolution 8 --frames 3 --step 0.1 --scheme EULER --out"
    assert main(["generate", "navier_stokes", *options.split(), str(tmp_path / "ns.h5")]) == 0
    stored = read(tmp_path / "ns.h5")
    assert stored.attributes["settings"]["scheme"] == "EULER"
    expected = draw(NavierStokes(resolution=8, frames=3, step=0.1, scheme=Scheme.EULER), n=2, seed=0)
    np.testing.assert_array_equal(stored.y, expected.y)


@pytest.mark.parametrize("scheme", Scheme)
def test_the_command_line_takes_a_range_of_viscosities(scheme, tmp_path):
    options = f"--n 3 --resolution 8 --frames 3 --step 0.1 --scheme {scheme} --viscosity 1e-3 1e-1 --out"
    assert main(["generate", "navier_stokes", *options.split(), str(tmp_path / "ns.h5")]) == 0
    stored = read(tmp_path / "ns.h5")
    assert stored.parameter_names == ("viscosity",)
    assert ((stored.parameters > 1e-3) & (stored.parameters < 1e-1)).all()
    one = NavierStokes(resolution=8, frames=3, step=0.1, scheme=scheme, viscosity=float(stored.parameters[2, 0]))
    np.testing.assert_allclose(stored.y[2], draw(one, n=3, seed=0).y[2], atol=1e-6)  # float32 of values up to 1


def test_a_step_that_is_too_large_is_an_error():
    with pytest.raises(RuntimeError, match=r"not finite: its solver did not converge.* smaller step"):
        draw(dataclasses.replace(SMALL, forcing=1e4, step=0.5), n=1, seed=0)


def test_bad_fields_and_precision(x64):
    with pytest.raises(ValueError, match=r"points of the solver, \(16, 16\), got \(8, 8\)"):
        SMALL.vorticity(jnp.ones((8, 8)))
    with jax.enable_x64(False), pytest.raises(ValueError, match="computes in float64, got float32"):
        SMALL.sample(jax.random.key(0))
    assert jax.eval_shape(SMALL.vorticity, jnp.ones((16, 16), jnp.float32)).dtype == jnp.float32


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"resolution": 3}, "at least 4 points and a divisor of them as every, got resolution 3"),
        ({"every": 0}, "every 0"),
        ({"resolution": 10, "every": 4}, "every 4"),
        ({"frames": 1}, "at least 2 frames, the input and one of the output, got 1"),
        ({"interval": 0.0}, "positive interval and step, and viscosity >= 0, got interval 0.0"),
        ({"step": 0.0}, "step 0.0"),
        ({"viscosity": -1.0}, "viscosity -1.0"),
        ({"alpha": 1.0}, "alpha > 1 and tau > 0, got alpha 1.0"),
        ({"tau": 0.0}, "tau 0.0"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        NavierStokes(**settings)
