"""Checkpoints: atomic, written while training goes on, the best and the last ones kept, each with its digests."""

import asyncio
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
from orbax.checkpoint.path import atomicity

from sciml import parallel
from sciml.files import MANIFEST, Damaged, check_tree, write_bytes, write_manifest
from sciml.train._ema import ema_of
from sciml.train._state import TrainState
from sciml.train._stored import STEP, UNLISTED, Stored, stored_steps

_REMOVED = ".removed"
_FILE_SIZE = 16 << 20  # bytes; several files are compared at once


class _WithDigests(atomicity.AtomicRenameTemporaryPath):
    """The temporary folder of a checkpoint, which gets its number and its `SHA256SUMS` before it is renamed."""

    async def finalize(self) -> None:
        """Writes its number and the digests of all files, then renames; orbax calls it for each item, too."""
        if self.get_final().name.isdecimal():
            await asyncio.to_thread(_sign, pathlib.Path(self.get()), self.get_final().name)
        await atomicity.AtomicRenameTemporaryPath.finalize(self)


def _sign(folder: pathlib.Path, step: str) -> None:
    write_bytes(folder / STEP, f"{step}\n".encode())
    write_manifest(folder, unlisted=UNLISTED)


class Checkpoints:
    """The checkpoints of one run in one folder.

    Only arrays are stored, under their paths in the pytree, so that they can be compared and loaded without the code
    that made them. A checkpoint is written to a temporary folder that is renamed at the end; a killed run leaves the
    previous one intact. It holds the SHA-256 digests of its files in `SHA256SUMS`, and nothing is returned from one
    whose files differ from them.

    Several processes save together, each the arrays of its devices; a checkpoint can be read on any number of devices.

    Args:
        folder: Made if it does not exist, when the first state is saved.
        metric: Name of the metric that decides which checkpoint is the best (the lowest); None keeps only the last.
        keep: Number of last checkpoints to keep beside the best.
        digests: Whether checkpoints have digests; False for those of version 0.1.

    Raises:
        Damaged: If the metrics of a checkpoint have changed since they were saved.
        ValueError: If the folder holds links or devices.
    """

    def __init__(self, folder: str | pathlib.Path, *, metric: str | None = None, keep: int = 2, digests: bool = True):
        logging.getLogger("absl").setLevel(logging.CRITICAL)  # orbax logs each phase of a save; errors are raised here
        self.folder = pathlib.Path(folder).absolute()
        if self.folder.exists():
            check_tree(self.folder)
        self._metric, self._keep, self._digests = metric, keep, digests
        self._saving: int | None = None
        self._orbax: ocp.CheckpointManager | None = None
        with self._clear_errors():
            known = {step: self.metrics(step) for step in self.steps}
        self._lowest = min((self._score(metrics) for metrics in known.values()), default=math.inf)

    def _manager(self) -> ocp.CheckpointManager:
        """The writer of orbax; made before the first save, so that reading changes nothing in the folder."""
        if self._orbax is None:
            if parallel.is_first():
                self._remove_leftovers()
            parallel.barrier("leftovers")
            policies: list[Any] = [LatestN(self._keep)]
            if self._metric is not None:
                best = BestN(get_metric_fn=self._score, reverse=True, n=1, keep_checkpoints_without_metrics=False)
                policies.append(best)
            options = ocp.CheckpointManagerOptions(
                preservation_policy=AnyPreservationPolicy(policies),
                best_fn=self._score,
                best_mode="min",
                temporary_path_class=_WithDigests,
                todelete_subdir=_REMOVED,  # a step that is removed goes at once, and bit by bit afterwards
            )
            handlers = {item: ocp.PyTreeCheckpointHandler() for item in ("model", "optimiser", "average")}
            self._orbax = ocp.CheckpointManager(self.folder, options=options, item_handlers=handlers)
        return self._orbax

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
            manager = self._manager()
            manager.check_for_errors()
            if step in manager.all_steps():
                return
            manager.wait_until_finished()  # as `save` does, but before the folder goes into which it moves old steps
            if parallel.is_first():
                shutil.rmtree(self.folder / _REMOVED, ignore_errors=True)
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
        items = {
            name: ocp.args.PyTreeSave(item, ocdbt_target_data_file_size=_FILE_SIZE)
            for name, item in arrays.items()
            if item
        }
        with self._clear_errors():
            manager.save(step, args=ocp.args.Composite(**items), metrics=dict(metrics or {}))
        self._lowest = min(self._lowest, self._score(metrics or {}))

    def _remove_leftovers(self) -> None:
        """What a killed run left half-written or half-removed."""
        for leftover in (*self.folder.glob("*.orbax-checkpoint-tmp*"), self.folder / _REMOVED):
            if leftover.exists():
                shutil.rmtree(leftover)

    def wait(self) -> None:
        """Waits until everything is on disk; raises like `save`."""
        if self._orbax is not None:
            with self._clear_errors():
                self._orbax.wait_until_finished()

    def close(self) -> None:
        """Waits and releases the folder."""
        if self._orbax is not None:
            with self._clear_errors():
                self._orbax.close()
            if parallel.is_first():
                shutil.rmtree(self.folder / _REMOVED, ignore_errors=True)

    @property
    def steps(self) -> list[int]:
        """Numbers of steps of all checkpoints on disk, in order."""
        return stored_steps(self.folder)

    @property
    def latest(self) -> int | None:
        """Number of steps of the last checkpoint on disk, None without one."""
        return max(self.steps, default=None)

    @property
    def best(self) -> int | None:
        """Number of steps of the checkpoint with the lowest metric; the last one if no metric was ever saved."""
        known = {step: self.metrics(step) for step in self.steps}
        scores = {step: self._score(metrics) for step, metrics in known.items() if self._metric in metrics}
        return min(scores, key=lambda step: (scores[step], step)) if scores else self.latest

    def is_best(self, metrics: Mapping[str, float]) -> bool:
        """Whether the metric is among these and lower than in all states saved so far."""
        return self._score(metrics) < self._lowest

    def metrics(self, step: int) -> dict[str, float]:
        """Metrics saved with a checkpoint.

        Raises:
            FileNotFoundError: If there is no such checkpoint.
            Damaged: If they have changed since they were saved.
        """
        with self._last_good():
            return self._stored(step).metrics()

    def restore(self, like: TrainState, step: int | None = None) -> TrainState:
        """A saved state, on the devices where `like` is.

        Args:
            like: A state of the same structure; its static parts and the placement of its arrays are used.
            step: Which checkpoint, by default the last.

        Raises:
            FileNotFoundError: If there is none.
            Damaged: If a file of it has changed since it was saved; it names the file and the last intact checkpoint.
            ValueError: If the checkpoint is of another model or another optimiser.
        """
        with self._last_good():
            stored = self._stored(step)
            stored.check()
            model = _fill(stored, like.model, "model")
            opt_state = _fill(stored, like.opt_state, "optimiser")
            return TrainState(model, opt_state, jax.device_put(np.int32(stored.step), like.step.sharding))

    def restore_model(self, like: PyTree, step: int | None = None) -> PyTree:
        """The saved model alone, with the EMA of the parameters if the run had one; otherwise as `restore`."""
        with self._last_good():
            stored = self._stored(step)
            stored.check()
            model = _fill(stored, like, "model")
            expected = {name: _abstract(leaf) for name, leaf in _flat(like, "model").items()}
            return _replace(model, stored.read("average", expected), "model")

    def _stored(self, step: int | None) -> Stored:
        known = self.steps
        wanted = max(known, default=None) if step is None else step
        if wanted is None or wanted not in known:
            which = "no checkpoint" if step is None else f"no checkpoint of step {step}"
            raise FileNotFoundError(f"There is {which} in {self.folder}, only {known}.")
        return Stored(self.folder, wanted, digests=self._digests)

    @contextlib.contextmanager
    def _last_good(self) -> Iterator[None]:
        """Adds to an error of a damaged checkpoint which other one is intact."""
        try:
            yield
        except Damaged as error:
            good = max((step for step in self.steps if self._stored(step).intact()), default=None)
            other = "No other is intact." if good is None else f"The last intact checkpoint is of step {good}."
            raise Damaged(f"{error} {other}", good=good) from None

    @contextlib.contextmanager
    def _clear_errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            full = _disk_is_full(error)
            if not (full or isinstance(error, TimeoutError)):
                raise
            reason = "The disk is full" if full else "Saving took too long, or the clock of the machine has jumped"
            raise OSError(
                errno.ENOSPC if full else errno.ETIMEDOUT,
                f"{reason}: the checkpoint of step {self._saving} could not be saved to {self.folder}. "
                f"Those of the steps {self.steps} are intact; {'free some space and ' * full}go on from there",
            ) from error


def go_back(folder: str | pathlib.Path, step: int, aside: pathlib.Path) -> list[int]:
    """Moves all later and all damaged checkpoints of a folder into another one, so that a run goes on from a step.

    Args:
        folder: The folder of `Checkpoints`.
        step: The checkpoint from which the run goes on.
        aside: Where the others go; made if it does not exist.

    Returns:
        The steps of those that were moved.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        Damaged: If it is damaged itself.
    """
    folder = pathlib.Path(folder)
    known = {number: Stored(folder, number) for number in stored_steps(folder)}
    if step not in known:
        raise FileNotFoundError(f"There is no checkpoint of step {step} in {folder}, only {list(known)}.")
    known[step].check()
    moved = [number for number, stored in known.items() if number > step or not stored.intact()]
    for number in moved:
        aside.mkdir(parents=True, exist_ok=True)
        taken = len(list(aside.glob(f"{number}*")))
        (folder / str(number)).rename(aside / (f"{number}-{taken}" if taken else str(number)))
    return moved


def add_digests(folder: str | pathlib.Path) -> None:
    """Gives the checkpoints of version 0.1 in a folder, which have no digests, those of their files as they are."""
    for step in stored_steps(pathlib.Path(folder)):
        if not (pathlib.Path(folder) / str(step) / MANIFEST).exists():
            write_manifest(pathlib.Path(folder) / str(step), unlisted=UNLISTED)


def _fill(stored: Stored, like: PyTree, item: str) -> PyTree:
    expected = {name: _abstract(leaf) for name, leaf in _flat(like, item).items()}
    _compare(expected, stored.shapes(item), stored.path, item)
    return _replace(like, stored.read(item, expected), item)


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
    here = leaf.sharding if isinstance(leaf, jax.Array) else jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
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
