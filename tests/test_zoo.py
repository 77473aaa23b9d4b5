"""The numbers of parameters that publications print, and every model on every kind of grid."""

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

from sciml import zoo
from sciml.grid import Dirichlet, Grid, Neumann, Periodic
from sciml.operators import NAVIER_STOKES, MgNO, MgNOConfig

GRID = Grid((64, 64))
COUNTS = {
    zoo.fno_published: 2_368_001,
    zoo.fno_published_narrow: 1_332_929,
    zoo.uno_darcy: 16_393_665,
    zoo.unet_published: 17_261_825,
    zoo.dilated_resnet_published: 1_035_201,
    zoo.galerkin_darcy: 2_220_829 - 228_988,  # without the convolutions around the transformer
    zoo.transolver_darcy: 2_826_945 - 128,  # without what stands for a missing input
}


def parameters(model):
    return sum(leaf.size for leaf in jax.tree.leaves(model) if jnp.issubdtype(leaf.dtype, jnp.inexact))


@pytest.mark.parametrize("make", COUNTS, ids=lambda make: make.__name__)
def test_the_number_of_parameters_is_the_published_one(make):
    model = eqx.filter_eval_shape(lambda key: make(1, 1, grid=GRID, key=key), jax.random.key(0))  # allocates nothing
    assert parameters(model) == COUNTS[make]


@pytest.mark.parametrize(
    ("make", "axes", "count"),
    [
        (zoo.apebench_convnet, 1, 31_757),  # printed by APEBench
        (zoo.apebench_convnet, 2, 94_589),  # and counted with pdequinox 0.1.2
        (zoo.apebench_convnet, 3, 283_085),
        (zoo.apebench_modern_resnet, 1, 32_943),
        (zoo.apebench_modern_resnet, 2, 97_839),
        (zoo.apebench_modern_resnet, 3, 292_527),
        (zoo.apebench_global_resnet, 1, 31_753),  # counted by hand: 7 * 24 + 24, 6 (9 * 24^2 + 48), 7 * 24 + 1
        (zoo.apebench_global_resnet, 2, 178_921),
        (zoo.convnext_unet_published, 2, 18_568_537 - 1_890),  # the_well 1.2.0, without constants that it never uses
        (zoo.convnext_unet_published, 3, 22_277_977 - 1_890),
    ],
)
def test_networks_for_every_number_of_axes(make, axes, count):
    grid = Grid((64,) * axes)
    assert parameters(eqx.filter_eval_shape(lambda key: make(1, 1, grid=grid, key=key), jax.random.key(0))) == count


IN, OUT, SHAPE = 2, 3, (16, 20, 24)
WALLS = (Neumann(), (Neumann(gap=0.5), Dirichlet()), Periodic())


def loss(model, x):
    return jnp.mean(model(x) ** 2)


CASES = [  # two axes with walls have all that the others have
    pytest.param(axes, boundary, id=f"{axes}-{kind}", marks=() if (axes, kind) == (2, "walls") else pytest.mark.slow)
    for axes in (1, 2, 3)
    for kind, boundary in (("periodic", (Periodic(),) * 3), ("walls", WALLS))
]


@pytest.mark.parametrize(("axes", "boundary"), CASES)
@pytest.mark.parametrize("name", zoo.MODELS)
def test_every_model_acts_on_every_grid(name, axes, boundary):
    """Shapes of outputs and gradients, without computing them."""
    grid = Grid(SHAPE[:axes], boundary=boundary[:axes])
    make = lambda key: zoo.MODELS[name].make(IN, OUT, grid=grid, key=key)
    model = eqx.filter_eval_shape(make, jax.random.key(0))
    x = jax.ShapeDtypeStruct((IN, *grid.shape), jnp.float32)
    assert eqx.filter_eval_shape(lambda model, x: model(x), model, x).shape == (OUT, *grid.shape)
    gradient = eqx.filter_eval_shape(eqx.filter_grad(loss), model, x)
    assert parameters(gradient) == parameters(model)


QUICK = ("convnet", "modern_resnet")  # the others take seconds to compile


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in zoo.MODELS]
)
def test_the_gradient_of_every_model_is_finite(name):
    grid = Grid(SHAPE[:1], boundary=Dirichlet())
    model = zoo.MODELS[name].make(IN, OUT, grid=grid, key=jax.random.key(0))
    gradient = eqx.filter_jit(eqx.filter_grad(loss))(model, jax.random.normal(jax.random.key(1), (IN, *grid.shape)))
    leaves = [leaf for leaf in jax.tree.leaves(gradient) if eqx.is_inexact_array(leaf)]
    assert all(jnp.isfinite(leaf).all() for leaf in leaves)


def test_deeponet_on_its_published_grid():
    make = lambda key: zoo.deeponet_burgers(1, 1, grid=Grid((128,)), key=key)
    assert parameters(eqx.filter_eval_shape(make, jax.random.key(0))) == 99_713


MGNO = [
    (zoo.mgno_darcy, 1, 256, 572_661),
    (zoo.mgno_darcy_smooth, 1, 211, 678_093),
    (zoo.mgno_pipe, 2, 128, 783_876),
    (zoo.mgno_navier_stokes, 1, 64, 2_885_194),
    (zoo.mgno_navier_stokes, 10, 64, 2_922_508),
    (zoo.mgno_helmholtz, 1, 101, 5_351_806 - 11_241),  # without the stencils that the published code never uses
]


@pytest.mark.parametrize(("make", "into", "n", "count"), MGNO)
def test_mgno_on_its_published_grid(make, into, n, count):
    grid = Grid((n, n), boundary=Dirichlet())
    assert parameters(eqx.filter_eval_shape(lambda key: make(into, 1, grid=grid, key=key), jax.random.key(0))) == count


@pytest.mark.parametrize(
    ("n", "depth", "levels", "config", "width", "count"),
    [
        (211, 4, 6, MgNOConfig(), 24, 524_277),  # the smooth Darcy network with 4 layers
        (64, 6, ((1, 0),) * 3 + ((2, 0),) * 2, NAVIER_STOKES, 32, 3_492_842),  # ablations of Navier-Stokes
        (64, 5, 4, NAVIER_STOKES, 32, 2_550_655),
        (256, 4, ((1, 1),) * 5 + ((2, 0),), MgNOConfig(), 24, 730_341),  # the paper's table 7, taken literally
    ],
)
def test_mgno_of_the_ablations(n, depth, levels, config, width, count):
    grid = Grid((n, n), boundary=Dirichlet())
    make = lambda key: MgNO(1, 1, grid=grid, width=width, depth=depth, levels=levels, config=config, key=key)
    assert parameters(eqx.filter_eval_shape(make, jax.random.key(0))) == count
