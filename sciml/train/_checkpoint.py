"""Checkpoints: atomic, written while training goes on, the best and the last ones kept."""

import contextlib
import errno
import logging
import math
import pathlib
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import PyTree
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from sciml.train._ema import ema_of
from sciml.train._state import TrainState


class Checkpoints:
    """The checkpoints of one run in one folder.

    Only arrays are stored, under their paths in the pytree, so that they can be compared and loaded without the code
    that made them. A checkpoint is written to a temporary folder that is renamed at the end; a killed run leaves the
    previous one intact.

    Args:
        folder: Made if it does not exist.
        metric: Name of the metric that decides which checkpoint is the best (the lowest); None keeps only the last.
        keep: Number of last checkpoints to keep beside the best.
    """

    def __init__(self, folder: str | pathlib.Path, *, metric: str | None = None, keep: int = 2):
        logging.getLogger("absl").setLevel(logging.CRITICAL)  # orbax logs each phase of a save; errors are raised here
        self.folder = pathlib.Path(folder).absolute()
        self._metric = metric
        self._clean = False
        self._saving: int | None = None
        policies: list[Any] = [LatestN(keep)]
        if metric is not None:
            policies.append(BestN(get_metric_fn=self._score, reverse=True, n=1, keep_checkpoints_without_metrics=False))
        options = ocp.CheckpointManagerOptions(
            preservation_policy=AnyPreservationPolicy(policies),
            best_fn=self._score,
            best_mode="min",
        )
        with self._clear_errors():
            self._orbax = ocp.CheckpointManager(
                self.folder,
                options=options,
                item_handlers={item: ocp.StandardCheckpointHandler() for item in ("model", "optimiser", "average")},
            )
        self._lowest = min((self._score(self.metrics(step)) for step in self._orbax.all_steps()), default=math.inf)

    def _score(self, metrics: Mapping[str, float]) -> float:
        value = metrics.get(self._metric or "", math.inf)
        return math.inf if math.isnan(value) else value  # NaN has no place in an order

    def save(self, state: TrainState, metrics: Mapping[str, float] | None = None) -> None:
        """Saves a state; returns as soon as its arrays are copied. A step that is already saved is left alone.

        Raises:
            FloatingPointError: If a parameter is not finite: such a state is never saved.
            OSError: If an earlier save failed, for example because the disk is full. The checkpoints before are intact.
        """
        step = int(state.step)
        with self._clear_errors():
            self._orbax.check_for_errors()
            if step in self._orbax.all_steps():
                return
            self._remove_leftovers()
            self._saving = step
        arrays = {"model": _flat(state.model, "model"), "optimiser": _flat(state.opt_state, "optimiser")}
        mean = ema_of(state.opt_state)
        if mean is not None:  # stored twice, so that `load` needs to know nothing about the optimiser
            arrays["average"] = _flat(mean, "model")
        if not _finite((state.model, mean)):
            raise FloatingPointError(
                f"A parameter is not finite after step {step}, so this state is not saved. "
                "Lower the learning rate or clip the gradient with optax.clip_by_global_norm."
            )
        # The next step donates these buffers while they are being written; JAX leaves those alone that orbax looks at.
        items = {name: ocp.args.StandardSave(item) for name, item in arrays.items() if item}
        with self._clear_errors():
            self._orbax.save(step, args=ocp.args.Composite(**items), metrics=dict(metrics or {}))
        self._lowest = min(self._lowest, self._score(metrics or {}))

    def _remove_leftovers(self) -> None:
        """What a killed run left half-written; before the first save, so that reading never disturbs a running one."""
        if not self._clean:
            for leftover in self.folder.glob("*.orbax-checkpoint-tmp*"):
                shutil.rmtree(leftover)
            self._clean = True

    def wait(self) -> None:
        """Waits until everything is on disk; raises like `save`."""
        with self._clear_errors():
            self._orbax.wait_until_finished()

    def close(self) -> None:
        """Waits and releases the folder."""
        with self._clear_errors():
            self._orbax.close()

    @property
    def latest(self) -> int | None:
        """Number of steps of the last checkpoint on disk, None without one."""
        return self._orbax.latest_step()

    @property
    def best(self) -> int | None:
        """Number of steps of the checkpoint with the lowest metric; the last one if no metric was ever saved."""
        known = {step: self.metrics(step) for step in self._orbax.all_steps()}
        scores = {step: self._score(metrics) for step, metrics in known.items() if self._metric in metrics}
        return min(scores, key=lambda step: (scores[step], step)) if scores else self.latest

    def is_best(self, metrics: Mapping[str, float]) -> bool:
        """Whether the metric is among these and lower than in all states saved so far."""
        return self._score(metrics) < self._lowest

    def metrics(self, step: int) -> dict[str, float]:
        """Metrics saved with a checkpoint."""
        return dict(self._orbax.metrics(step) or {})

    def restore(self, like: TrainState, step: int | None = None) -> TrainState:
        """A saved state, on the devices where `like` is.

        Args:
            like: A state of the same structure; its static parts and the placement of its arrays are used.
            step: Which checkpoint, by default the last.

        Raises:
            FileNotFoundError: If there is none.
            ValueError: If the checkpoint is of another model or another optimiser.
        """
        step = self._existing(step)
        model = self._fill(like.model, step, "model")
        opt_state = self._fill(like.opt_state, step, "optimiser")
        return TrainState(model, opt_state, jax.device_put(np.int32(step), like.step.sharding))

    def restore_model(self, like: PyTree, step: int | None = None) -> PyTree:
        """The saved model alone, with the EMA of the parameters if the run had one; otherwise as `restore`."""
        step = self._existing(step)
        model = self._fill(like, step, "model")
        expected = {name: _abstract(leaf) for name, leaf in _flat(like, "model").items()}
        return _replace(model, self._read(step, "average", expected), "model")

    def _existing(self, step: int | None) -> int:
        wanted = self.latest if step is None else step
        if wanted is None or wanted not in self._orbax.all_steps():
            which = "no checkpoint" if step is None else f"no checkpoint of step {step}"
            raise FileNotFoundError(f"There is {which} in {self.folder}, only {self._orbax.all_steps()}.")
        return wanted

    def _fill(self, like: PyTree, step: int, item: str) -> PyTree:
        expected = {name: _abstract(leaf) for name, leaf in _flat(like, item).items()}
        _compare(expected, self._shapes(step, item), self.folder / str(step), item)
        return _replace(like, self._read(step, item, expected), item)

    def _shapes(self, step: int, item: str) -> dict[str, jax.ShapeDtypeStruct]:
        if not (self.folder / str(step) / item).exists():
            return {}
        saved = self._orbax.item_metadata(step)[item].tree
        return {name: jax.ShapeDtypeStruct(tuple(array.shape), array.dtype) for name, array in saved.items()}

    def _read(self, step: int, item: str, expected: Mapping[str, Any]) -> dict[str, Any]:
        known = self._shapes(step, item)
        wanted = {name: expected[name] for name in known}
        if not wanted:
            return {}
        with self._clear_errors():
            return self._orbax.restore(step, args=ocp.args.Composite(**{item: ocp.args.StandardRestore(wanted)}))[item]

    @contextlib.contextmanager
    def _clear_errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if not _disk_is_full(error):
                raise
            intact = sorted(int(path.name) for path in self.folder.glob("*") if path.name.isdigit())
            raise OSError(
                errno.ENOSPC,
                f"The disk is full: the checkpoint of step {self._saving} could not be saved to {self.folder}. "
                f"Those of the steps {intact} are intact; free some space and go on from there",
            ) from error


def _flat(tree: PyTree, root: str) -> dict[str, Any]:
    """All arrays that have elements, by their path; keys of random numbers as their words."""
    leaves = [(root + jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]
    return {
        name: jax.random.key_data(leaf) if _is_key(leaf) else leaf
        for name, leaf in leaves
        if eqx.is_array(leaf) and leaf.size  # orbax refuses arrays without elements
    }


def _replace(tree: PyTree, arrays: Mapping[str, Any], root: str) -> PyTree:
    """The tree with the arrays found under its paths."""

    def new(path: Any, leaf: Any) -> Any:
        value = arrays.get(root + jax.tree_util.keystr(path))
        if value is None:
            return leaf
        return jax.random.wrap_key_data(value, impl=jax.random.key_impl(leaf)) if _is_key(leaf) else value

    return jax.tree_util.tree_map_with_path(new, tree)


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    here = leaf.sharding if isinstance(leaf, jax.Array) else jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here)


def _compare(expected: Mapping[str, Any], got: Mapping[str, Any], folder: pathlib.Path, item: str) -> None:
    differences = []
    for name in dict.fromkeys((*expected, *got)):
        pair = [f"{one[name].shape} {one[name].dtype}" if name in one else "nothing" for one in (expected, got)]
        if pair[0] != pair[1]:
            differences.append(f"{name}: expected {pair[0]}, got {pair[1]}")
    if differences:
        more = f"; and {len(differences) - 3} more" if len(differences) > 3 else ""
        raise ValueError(
            f"The checkpoint {folder} is of another {item}. {'; '.join(differences[:3])}{more}. "
            f"Build the {item} with the settings of that run, or use another folder."
        )


@jax.jit
def _all_finite(arrays: list[Any]) -> Any:
    return jnp.all(jnp.stack([jnp.isfinite(array).all() for array in arrays]))


def _finite(tree: PyTree) -> bool:
    arrays = [leaf for leaf in jax.tree.leaves(tree) if eqx.is_inexact_array(leaf)]
    return not arrays or bool(_all_finite(arrays))


def _disk_is_full(error: BaseException | None) -> bool:
    while error is not None:
        if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
