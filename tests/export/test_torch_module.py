"""A model as a module of PyTorch computes, differentiates and trains as in JAX."""

import equinox as eqx
import exported_models
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml import export
from sciml.operators import FNO, Normalised, per_channel
from sciml.rollout import Conditions

torch = pytest.importorskip("torch", reason="PyTorch is not installed; the extra `torch` brings it")

BATCH, IN, OUT, NX, NY = 2, 3, 5, 8, 12


@pytest.fixture(scope="module")
def model():
    rng = np.random.default_rng(0)
    x, y = (rng.normal(2, 3, (7, channels, NX, NY)).astype(np.float32) for channels in (IN, OUT))
    operator = FNO(IN, OUT, modes=(4, 4), width=6, depth=1, key=jax.random.key(0))
    return Normalised(operator, per_channel(x), per_channel(y))


@pytest.fixture
def x():
    return torch.from_numpy(np.random.default_rng(1).normal(size=(BATCH, IN, NX, NY)).astype(np.float32))


def test_values_and_gradients_are_those_of_jax(model, x):
    module = export.torch_module(model)
    x.requires_grad_(True)
    y = module(x)
    (y**2).sum().backward()
    loss = lambda model, x: jnp.sum(jax.vmap(model)(x) ** 2)
    given = jnp.asarray(x.detach().numpy())
    np.testing.assert_allclose(y.detach(), jax.jit(jax.vmap(model))(given), rtol=1e-5, atol=1e-5)
    slope = jax.jit(jax.grad(loss, 1))(model, given)
    np.testing.assert_allclose(x.grad, slope, atol=1e-5 * float(jnp.abs(slope).max()))
    of_weights = jax.jit(jax.grad(lambda weight: loss(_with_weight(model, weight), given)))(_weight(model))
    found = dict(module.named_parameters())["operator_blocks_0_spectral_weight"].grad
    np.testing.assert_allclose(found, of_weights, atol=1e-4 * float(jnp.abs(of_weights).max()))


def _weight(model):
    return model.operator.blocks[0].spectral.weight


def _with_weight(model, weight):
    return eqx.tree_at(_weight, model, weight)


def test_an_optimiser_of_pytorch_trains_it_and_the_model_comes_back(model, x):
    module = export.torch_module(model)
    optimiser, losses = torch.optim.Adam(module.parameters(), lr=1e-2), []
    before = _weight(model).copy()
    for _ in range(5):
        optimiser.zero_grad()
        loss = (module(x) ** 2).mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    np.testing.assert_array_equal(_weight(model), before)
    trained = module.model()
    np.testing.assert_allclose(jax.vmap(trained)(jnp.asarray(x.numpy())), module(x).detach(), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(trained.x.mean.value, model.x.mean.value)


def test_a_state_is_saved_and_loaded(model, x, tmp_path):
    module, other = export.torch_module(model), export.torch_module(jax.tree.map(jnp.zeros_like, model))
    torch.save(module.state_dict(), tmp_path / "state.pt")
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    np.testing.assert_array_equal(_weight(other.model()), _weight(model))


def test_an_output_that_is_the_input_has_memory_of_its_own(x):
    module = export.torch_module(lambda x: x)
    with pytest.raises(ValueError, match="on the CPU, got meta"):
        module(x.to("meta"))
    y = module(x)
    y += 1
    assert not torch.equal(x, y)


def test_a_model_that_is_told_parameters_takes_them(x):
    model = exported_models.conditioned(NX, NY)
    frames = x[:, None, :2].repeat(1, 3, 1, 1, 1)
    fixed, parameters = x[:, :1], torch.tensor([[1.0], [2.0]])
    found = export.torch_module(model)(frames, fixed, parameters)
    conditions = Conditions(fixed.numpy(), parameters.numpy(), np.ones(BATCH, np.float32))
    expected = jax.jit(jax.vmap(model))(frames.numpy(), conditions)
    np.testing.assert_allclose(found.detach(), expected, rtol=1e-5, atol=1e-5)
