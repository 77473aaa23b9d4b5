"""Handwritten digits: small real images that come with scikit-learn."""

import numpy as np

from sciml.data._dataset import Arrays


def digits() -> dict[str, Arrays]:
    """Pairs of images (n, 8, 8) with values in [0, 1] and classes (n,), in the parts train, validation and test.

    1237, 200 and 360 images, in a fixed random order. Source: E. Alpaydin, C. Kaynak, "Optical recognition of
    handwritten digits", UCI machine learning repository, 1998, its test set of 1797 images.

    Raises:
        ModuleNotFoundError: If scikit-learn is missing.
    """
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError:
        raise ModuleNotFoundError("The digits come with scikit-learn: pip install 'sciml-jax[datasets]'.") from None
    images, labels = (np.asarray(one) for one in load_digits(return_X_y=True))
    order = np.random.default_rng(0).permutation(len(images))
    every = Arrays((images[order] / 16).reshape(-1, 8, 8), labels[order].astype(np.int32))
    rows = {"train": slice(360, -200), "validation": slice(-200, None), "test": slice(0, 360)}
    return {name: Arrays(*every[part]) for name, part in rows.items()}
