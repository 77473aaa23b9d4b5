"""A trained run of experiments/prose_ode.py."""

import dataclasses
import pathlib
from typing import Any

from sciml import prose, symbolic
from sciml.experiment import load, read_json


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
    """A model, and what it was trained on.

    Attributes:
        known: Whether all guesses in its training had the true numbers.
        told: Whether some had.
        blank: Whether some said nothing.
    """

    model: prose.Prose
    vocabulary: symbolic.Vocabulary
    variables: int
    inputs: int
    span: float
    end: float
    predicted: int
    known: bool
    told: bool
    blank: bool
    longest: int


def trained_on(run: pathlib.Path) -> Trained:
    """The model of a run and what its config says.

    Raises:
        FileNotFoundError: If the folder is not a run.
        ValueError: If the run is of another experiment.
    """
    model, config = load(run), read_json(run / "config.json")
    needed = {"inputs", "sensors", "points", "end", "guess", "blank", "longest"}
    ours = isinstance(model, prose.Prose) and isinstance(model.data_encoder.embedding, prose.StateEmbedding)
    if not ours or not needed <= set(config):
        raise ValueError(
            f"Expected a run of experiments/prose_ode.py in {run}, got one of {config.get('model', 'another model')}. "
            "Other models are loaded with sciml.experiment.load."
        )
    head: Any = model.data_decoder.head
    variables, last = head.bias.shape[0], config["points"] - 1
    return Trained(
        model=model,
        vocabulary=symbolic.ode_vocabulary(variables),
        variables=variables,
        inputs=config["sensors"] or config["inputs"],
        span=config["end"] * (config["inputs"] - 1) / last,
        end=config["end"],
        predicted=config["points"] - config["inputs"],
        known=config["guess"] == "known",
        told=config.get("told", 0) > 0,
        blank=config["blank"] > 0,
        longest=config["longest"],
    )
