import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.pdes import InitialBump, InitialField, InitialSines, InitialStep

STARTS = [InitialSines(), InitialBump(), InitialField(), InitialStep()]


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def draw(start, n, count=200):
    return draw_all([start], n, count)[0]


def draw_all(starts, n, count=200):
    """Fields of several kinds from the same keys, in one program."""
    keys = jax.random.split(jax.random.key(0), count)
    return [np.asarray(u) for u in jax.jit(jax.vmap(lambda key: [start(key, n) for start in starts]))(keys)]


def test_one_field_for_each_key_in_the_default_precision():
    for start, u in zip(STARTS, draw_all(STARTS, 21, count=3), strict=True):
        assert u.shape == (3, 21)
        assert u.dtype == np.float32
        assert np.abs(u[0] - u[1]).max() > 1e-3
        with jax.enable_x64(True):
            assert jax.eval_shape(lambda key, start=start: start(key, 21), jax.random.key(0)).dtype == jnp.float64


@pytest.mark.parametrize("kind", [InitialSines, InitialField])
def test_rescaled_fields(kind, x64):
    start = kind(low=-0.2, high=0.5)
    u, finer = draw(start, 32), draw(start, 96)
    np.testing.assert_allclose(u.min(axis=1), -0.2, atol=1e-14)
    np.testing.assert_allclose(u.max(axis=1), 0.5, atol=1e-14)
    same = finer[:, 1::3]  # the same centres
    unit = lambda u: (u - u.min(axis=1, keepdims=True)) / np.ptp(u, axis=1, keepdims=True)
    np.testing.assert_allclose(unit(same), unit(u), atol=1e-9)


def test_sines_have_the_stated_waves(x64):
    plain = draw(InitialSines(waves=3, absolute=0.0, windowed=0.0), 24, count=600)
    modes = np.abs(np.fft.rfft(plain)) > 1e-10
    assert not modes[:, 4:].any()
    counts = np.stack([modes[:, m] for m in (1, 2, 3)]).sum(axis=0)
    assert set(counts) == {1, 2}
    # Two draws from three wave numbers: each is among them with the chance 5 / 9; 5 standard deviations of 0.02.
    np.testing.assert_allclose(modes[:, 1:4].mean(axis=0), 5 / 9, atol=0.1)


def test_what_is_done_to_sines(x64):
    kinds = [InitialSines(waves=2, absolute=a, windowed=w) for a, w in ((0.0, 0.0), (1.0, 0.0), (0.3, 0.0), (0.0, 1.0))]
    plain, folded, mixed, windowed = draw_all(kinds, 60)
    changed = np.abs(mixed - plain).max(axis=1) > 1e-9
    assert changed.mean() == pytest.approx(0.3, abs=0.15)  # 4 standard deviations
    np.testing.assert_array_equal(mixed[changed], folded[changed])
    kinks = np.abs(np.fft.rfft(folded))[:, 10:].max(axis=1)
    assert np.median(kinks) > 1e-3
    ends = np.r_[windowed.T[:3], windowed.T[-3:]]
    assert np.ptp(ends, axis=0).max() < 0.02  # 1 - tanh(0.05 / 0.02) = 0.013 of the largest field, at worst


def test_bumps_are_recovered_from_their_modes(x64):
    start = InitialBump(centre=(0.1, 0.4), width=(0.06, 0.09), height=(2.0, 3.0))
    modes = np.fft.rfft(draw(start, 64)) / 64
    first, second = modes[:, 1], modes[:, 2]
    width = np.sqrt(np.log(np.abs(first / second)) / (6 * np.pi**2))  # mode m decays like exp(-2 (pi m width)^2)
    centre = -np.angle(first * np.exp(-1j * np.pi / 64)) / (2 * np.pi)
    height = modes[:, 0].real / (width * np.sqrt(2 * np.pi))
    for found, (low, high) in ((centre, start.centre), (width, start.width), (height, start.height)):
        assert low <= found.min() < low + 0.1 * (high - low)  # 200 draws: missed once in 1e9 keys
        assert high - 0.1 * (high - low) < found.max() <= high
    np.testing.assert_allclose(np.abs(first / modes[:, 0]), np.exp(-2 * (np.pi * width) ** 2), rtol=1e-9)


@pytest.mark.parametrize("correlation", [0.08, 0.15])
def test_the_spectrum_of_fields(correlation, x64):
    """Squares of modes are exponentially distributed: the first exceeds the second with the chance a / (a + b)."""
    modes = np.abs(np.fft.rfft(draw(InitialField(correlation), 48, count=2000)))
    a, b = np.exp(-2 * (np.pi * correlation * np.array([1, 2])) ** 2)
    assert (modes[:, 1] > modes[:, 2]).mean() == pytest.approx(a / (a + b), abs=0.045)  # 4 standard deviations


def test_steps(x64):
    u = draw(InitialStep(low=1.0, high=3.0, jump=(0.3, 0.6)), 20, count=500)
    left, right = u[:, 0], u[:, -1]
    for level in (left, right):
        assert 1.0 <= level.min() < 1.05
        assert 2.95 < level.max() <= 3.0
    assert abs(np.corrcoef(left, right)[0, 1]) < 0.2
    place = (u.mean(axis=1) - right) / (left - right)
    assert 0.3 <= place.min() < 0.31
    assert 0.59 < place.max() <= 0.6
    before = np.arange(20) < np.floor(20 * place).reshape(-1, 1)
    after = np.arange(20) > np.floor(20 * place).reshape(-1, 1)
    expected = np.where(before, left.reshape(-1, 1), np.where(after, right.reshape(-1, 1), u))
    np.testing.assert_allclose(u, expected, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: InitialSines(waves=0), r"waves >= 1 and flank > 0, got waves 0"),
        (lambda: InitialSines(flank=0.0), r"got waves 4 and flank 0\.0"),
        (lambda: InitialSines(high=0.0), r"Expected low < high, got low 0\.0 and high 0\.0"),
        (lambda: InitialField(low=2.0), r"Expected low < high, got low 2\.0 and high 1\.0"),
        (lambda: InitialField(0.001), r"correlation length in \[0\.005, 0\.5\], got 0\.001"),
        (lambda: InitialBump(width=(0.1, 0.05)), r"widths in \(0, 0\.25\], smallest first, got \(0\.1, 0\.05\)"),
        (lambda: InitialStep(low=2.0), r"Expected low < high, got low 2\.0 and high 2\.0"),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_starts_are_data():
    assert dataclasses.replace(InitialSines(), waves=2) == InitialSines(waves=2)
    assert hash(InitialField(0.3)) == hash(InitialField(0.3))
