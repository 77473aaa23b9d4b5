"""What tells one data set from another when a run goes on."""

import hashlib
from typing import Any

import jax
import numpy as np

_WHOLE = 64 << 20  # bytes; smaller data are hashed as a whole
_ROWS = 256  # samples that are hashed of larger data


def fingerprint(data: Any) -> dict[str, Any]:
    """Number of samples, shapes, types and a SHA-256 digest of a data set.

    Data of up to 64 MB are hashed as a whole, of larger data 256 equally spaced samples.

    Args:
        data: `len(data)` and `data[rows]`, a pytree of arrays with a leading axis of samples.
    """
    count = len(data)
    arrays = jax.tree.leaves(data[np.arange(min(1, count))])
    size = count * sum(np.asarray(array).nbytes for array in arrays)
    rows = np.arange(count) if size <= _WHOLE else np.unique(np.linspace(0, count - 1, _ROWS).round().astype(int))
    digest = hashlib.sha256()
    for array in jax.tree.leaves(data[rows]):
        digest.update(np.ascontiguousarray(array).tobytes())
    return {
        "samples": count,
        "shapes": [list(np.shape(array)[1:]) for array in arrays],
        "dtypes": [str(np.asarray(array).dtype) for array in arrays],
        "sha256": digest.hexdigest(),
    }
