"""The multigrid cycle: linearity, a classical cycle for the Poisson equation as a special case, sizes and errors."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.grid import Dirichlet, Grid, Neumann, Periodic
from sciml.nn import VCycle
from sciml.nn._multigrid import coarse_shapes

GRIDS = [
    Grid((20,), boundary=Dirichlet()),
    Grid((12, 16), boundary=Periodic()),
    Grid((9, 14), boundary=(Neumann(), (Dirichlet(), Neumann()))),
    Grid((5, 8, 6), boundary=Dirichlet()),
]


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_cycle_is_linear(grid, getkey):
    with jax.enable_x64(True):
        cycle = VCycle(2, 3, grid=grid, iterations=((2, 1), (1, 2)), key=getkey())
        x, y = jax.random.normal(getkey(), (2, 2, *grid.shape))
        assert cycle(x).shape == (3, *grid.shape)
        np.testing.assert_allclose(cycle(2 * x - 3 * y), 2 * cycle(x) - 3 * cycle(y), rtol=0, atol=1e-13)


def test_bias_makes_the_cycle_affine_and_residual_adds_an_operator(getkey):
    options = {"grid": GRIDS[1], "iterations": ((1, 0), (1, 1))}
    key = getkey()
    with_bias = VCycle(2, 3, **options, bias=True, key=key)
    assert jnp.max(jnp.abs(with_bias(jnp.zeros((2, 12, 16))))) > 0
    size = lambda cycle: sum(a.size for a in jax.tree.leaves(cycle))
    # one more 3x3 stencil from state to data for the one transition
    assert size(VCycle(2, 3, **options, residual=True, key=key)) == size(VCycle(2, 3, **options, key=key)) + 9 * 6


def test_a_periodic_cycle_commutes_with_shifts_by_a_coarse_spacing(getkey):
    """Exactly so only if the prolongation is periodic too; the published form is not, next to the seam."""
    shift = lambda x: jnp.roll(x, 4, 2)
    x = jax.random.normal(getkey(), (2, 12, 16))
    difference = {}
    for extension in (Periodic(), Dirichlet()):
        cycle = VCycle(2, 3, grid=GRIDS[1], iterations=((1, 1),) * 3, extension=extension, key=getkey())
        difference[extension] = float(jnp.max(jnp.abs(cycle(shift(x)) - shift(cycle(x)))))
    assert difference[Periodic()] < 1e-5
    assert difference[Dirichlet()] > 1e-3


def poisson_two_grid(n, key):
    """A cycle whose stencils are those of -u'' on n nodes of spacing 1: one damped Jacobi step, and an almost exact
    coarse solve by many of them.

    With data f and the residual restricted, u_1 starts from Pi u_0 = 0 and is a correction.
    """
    cycle = VCycle(1, 1, grid=Grid((n,), boundary=Dirichlet()), iterations=((2, 0), (200, 0)), residual=True, key=key)
    laplace, jacobi = jnp.array([-1.0, 2.0, -1.0]), jnp.array([0.0, 1 / 3, 0.0])  # damping 2/3 of the diagonal 1/2

    def put(cycle, where, line):
        return eqx.tree_at(lambda c: where(c).weight, cycle, line.reshape(3, 1, 1))

    for level, scale in ((0, 1.0), (1, 0.25)):
        for i, step in enumerate(cycle.pre[level]):
            cycle = put(cycle, lambda c, level=level, i=i: c.pre[level][i].smoother, jacobi / scale)
            if step.operator is not None:
                cycle = put(cycle, lambda c, level=level, i=i: c.pre[level][i].operator, laplace * scale)
    cycle = put(cycle, lambda c: c.restrict_operator[0], laplace)
    cycle = put(cycle, lambda c: c.restrict_data[0], jnp.array([0.25, 0.5, 0.25]))
    cycle = put(cycle, lambda c: c.restrict_state[0], jnp.zeros(3))
    return put(cycle, lambda c: c.prolong[0], jnp.array([0.5, 1.0, 0.5]))


def test_two_grid_cycle_contracts_the_poisson_error(getkey):
    """Linear interpolation, full weighting, Jacobi damped by 2/3: each cycle divides the error, theory 1/9.

    The grid keeps nodes 0, 2, ..., so that its first node is coarse, and the coarse problem differs from Galerkin's at
    the walls: the initial error is a wave packet away from them.
    """
    n = 65
    with jax.enable_x64(True):
        cycle = poisson_two_grid(n, getkey())
        nodes = np.arange(n)
        exact = np.exp(-(((nodes - n // 2) / 5) ** 2)) * (1 + 0.5 * (-1.0) ** nodes)
        exact = jnp.asarray(exact - 0.0)
        matrix = 2 * jnp.eye(n) - jnp.eye(n, k=1) - jnp.eye(n, k=-1)
        error = exact
        ratios = []
        for _ in range(3):
            new = error - cycle((matrix @ error)[None])[0]
            ratios.append(float(jnp.linalg.norm(new) / jnp.linalg.norm(error)))
            error = new
        assert max(ratios) < 0.15


def test_smallest_level_has_two_points():
    assert coarse_shapes(Grid((64, 33), boundary=Dirichlet()), 5) == ((64, 33), (32, 17), (16, 9), (8, 5), (4, 3))
    assert coarse_shapes(Grid((3,), boundary=Neumann()), 2) == ((3,), (2,))


def test_errors_say_how_many_levels_fit(getkey):
    with pytest.raises(ValueError, match=r"6 levels need at least 2 points .* room for 4: .*Use at most 4 levels"):
        VCycle(1, 2, grid=Grid((16, 24), boundary=Dirichlet()), iterations=((1, 0),) * 6, key=getkey())
    with pytest.raises(ValueError, match=r"even size wherever a periodic axis is coarsened.*room for 2"):
        VCycle(1, 2, grid=Grid((14, 16), boundary=Periodic()), iterations=((1, 0),) * 3, key=getkey())
    with pytest.raises(ValueError, match="room for 0"):
        coarse_shapes(Grid((1, 8), boundary=Dirichlet()), 1)
    for wrong in ((), ((0, 1), (1, 0)), ((1, 0), (1, 0, 0)), ((1, -1),)):
        with pytest.raises(ValueError, match=r"one pair \(pre, post\) of smoothing steps for each level"):
            VCycle(1, 2, grid=GRIDS[0], iterations=wrong, key=getkey())


def test_another_grid_is_refused(getkey):
    cycle = VCycle(2, 3, grid=GRIDS[1], iterations=((1, 0), (1, 0)), key=getkey())
    with pytest.raises(ValueError, match=r"Expected a field \(channels, 12, 16\), got \(2, 16, 12\).*Resample"):
        cycle(jnp.ones((2, 16, 12)))
