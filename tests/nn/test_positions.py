import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.nn import FourierFeatures, PlainFeature, Rotary, sinusoidal_table


def test_rotated_rows_know_the_difference_of_their_positions_alone(getkey):
    with jax.enable_x64(True):
        rotary = Rotary(base=50.0)
        a, b = (jax.random.normal(getkey(), (3, 5, 6)) for _ in range(2))
        products = lambda start: jnp.einsum("hni,hmi->hnm", rotary(a, start + jnp.arange(5)), rotary(b, jnp.arange(5)))
        shifted = jnp.einsum("hni,hmi->hnm", rotary(a, 9 + jnp.arange(5)), rotary(b, 7 + jnp.arange(5)))
        np.testing.assert_allclose(shifted, products(2), atol=1e-13)
        assert np.abs(products(2) - products(1)).min() > 1e-4


def test_rotation_is_a_complex_product(getkey):
    with jax.enable_x64(True):
        x = jax.random.normal(getkey(), (2, 4, 6))
        numbers = np.array(x[..., :3] + 1j * x[..., 3:])
        angles = np.array([0, 3, 4, 9])[:, None] * 10_000.0 ** (-np.arange(3) / 3)
        rotated = Rotary()(x, jnp.array([0, 3, 4, 9]))
        np.testing.assert_allclose(rotated[..., :3] + 1j * rotated[..., 3:], numbers * np.exp(1j * angles), atol=1e-14)
    with pytest.raises(ValueError, match=r"heads of even size, got 5. Change width or heads"):
        Rotary()(x[..., :5], jnp.arange(4))


def test_features_of_a_number():
    t = jnp.array([0.0, 0.25, 1.5])
    np.testing.assert_array_equal(PlainFeature()(t), t[:, None])
    features = FourierFeatures(3, 0.5, 2.0)
    angles = 2 * np.pi * np.array([0, 0.25, 1.5])[:, None] * np.array([0.5, 1, 2])
    expected = np.concatenate((np.asarray(t)[:, None], np.sin(angles), np.cos(angles)), axis=1)
    np.testing.assert_allclose(features(t), expected, atol=1e-6)  # float32, angles up to 20
    assert features.size == features(t).shape[1]


def test_sinusoidal_table_entry_by_entry():
    table = sinusoidal_table(7, 6)
    for p in range(7):
        for j in range(6):
            angle = p / 10_000 ** (2 * (j // 2) / 6)
            assert table[p, j] == pytest.approx(np.cos(angle) if j % 2 else np.sin(angle), abs=1e-15)
