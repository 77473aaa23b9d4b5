"""What devices send one another in training steps on 8 devices, as lines of JSON."""

import dataclasses
import json
import pathlib
import sys

import jax
import numpy as np
import optax
from jaxtyping import PyTree

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from helpers import OPERATORS

from sciml import losses, metrics, parallel, train
from sciml.grid import Grid

DEVICES, SAMPLES, SIZE = 8, 8, 32


def program(name: str, layout: parallel.Layout, accumulate: int) -> tuple[list[parallel.Exchange], PyTree]:
    """The exchanges of one step of training on 32 x 32 points, and the model."""
    grid, optimiser = Grid((SIZE, SIZE)), optax.adam(1e-3)
    model = OPERATORS[name].make(1, 1, grid, jax.random.key(0))
    placement = layout.on(SAMPLES, grid.shape)
    loss = losses.supervised(metrics.relative_l2)
    step = train.make_step(loss, optimiser, placement=placement, accumulate=accumulate)
    items = tuple(np.zeros((1, SAMPLES, 1, *grid.shape), np.float32) for _ in "xy")
    lowered = step.lower(train.place(train.init(model, optimiser), placement), None, items)[0]
    return parallel.exchanges(lowered.compile().compiled.as_text(), DEVICES), model


def main() -> None:
    for name, words, smallest, accumulate in json.loads(sys.argv[1]):
        layout = parallel.Layout.parse(words)
        if smallest:
            layout = dataclasses.replace(layout, state=parallel.Cut(smallest))
        found, model = program(name, layout, accumulate)
        rows = [[one.kind, one.size, one.devices, one.arrays] for one in found]
        arrays = [list(leaf.shape) for leaf in jax.tree.leaves(model) if hasattr(leaf, "shape")]
        found = {"exchanges": rows, "sent": parallel.sent(found), "arrays": arrays}
        print(json.dumps({"case": [name, words, smallest, accumulate], **found}))


if __name__ == "__main__":
    main()
