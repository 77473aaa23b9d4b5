import io
import json

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rich.console import Console

from sciml import train


def event(step, loss=1.0, steps=20, **metrics):
    state = train.init(jnp.zeros(2), optax.sgd(0.1))
    logs = {"loss": np.full(2, loss), "largest": np.ones((2, 3))}
    return train.Event(step, steps, state, logs, metrics, seconds=step / 4)


def test_the_log_holds_means_and_metrics(tmp_path):
    log = train.Log(tmp_path / "log.jsonl")
    log(event(2, 0.5))
    log(event(4, float("nan"), error=0.25))
    first, second = train.read_log(tmp_path / "log.jsonl")
    assert first["seconds"] <= second["seconds"] <= log.seconds + 5e-4  # records are rounded to milliseconds
    expected = {"step": 2, "seconds": 0, "training_seconds": 0.5, "loss": 0.5, "largest": 1.0}
    assert {**first, "seconds": 0} == expected
    expected |= {"step": 4, "training_seconds": 1.0, "loss": None, "validation": {"error": 0.25}}
    assert {**second, "seconds": 0} == expected


def test_a_resumed_log_forgets_what_was_lost_and_goes_on_counting_seconds(tmp_path):
    path = tmp_path / "log.jsonl"
    lines = [json.dumps({"step": k, "seconds": 100.0 * k, "training_seconds": 9.0 * k}) for k in (1, 2, 3)]
    path.write_text("\n".join(lines) + '\n{"step": 4, "sec')  # killed while writing
    log = train.Log(path, step=2)
    assert 200 <= log.seconds < 210
    log(event(3))
    log(event(3))  # the last step may be due twice
    assert [record["step"] for record in train.read_log(path)] == [1, 2, 3]
    assert train.read_log(path)[-1]["training_seconds"] == 18.75  # 18 seconds up to step 2, and those of this part


def test_validation_uses_the_averaged_model():
    hook = train.evaluation(lambda model: {"error": model.sum()})
    assert hook(event(1)) == {"error": 0.0}


@pytest.mark.parametrize(
    ("values", "patience", "expected"),
    [
        ([], 1, False),
        ([3.0], 1, False),
        ([3.0, 2.0, 2.5], 2, False),
        ([3.0, 2.0, 2.5, 2.0], 2, True),
        ([float("nan"), 2.0, float("nan")], 2, False),
        ([float("nan")] * 3, 2, True),
    ],
)
def test_a_run_stalls_after_so_many_evaluations_without_a_new_lowest(values, patience, expected):
    assert train.stalled(values, patience) == expected


def test_early_stop_counts_earlier_evaluations():
    hook = train.early_stop("error", 3, history=[1.0, 2.0])
    hook(event(3))  # no metric, not counted
    hook(event(4, error=1.5))
    with pytest.raises(train.Stop, match="error has not improved for 3 evaluations"):
        hook(event(5, error=1.2))


def test_progress_is_plain_lines_without_a_terminal():
    stream = io.StringIO()
    with train.Progress("darcy", seconds=1000.0, console=Console(file=stream, width=200)) as progress:
        progress(event(2, 0.5))
        progress(event(4, 0.4))  # too soon after the line before
        progress(event(6, 0.3, error=0.125))
        progress(event(20, 0.2))
    lines = stream.getvalue().strip().splitlines()
    assert [line.split()[2] for line in lines] == ["2/20", "6/20", "20/20"]
    assert "loss 0.5" in lines[0]
    assert all(word in lines[1] for word in ("error 0.125", "steps/s", "left"))


def test_progress_is_a_bar_on_a_terminal():
    stream = io.StringIO()
    with train.Progress("darcy", console=Console(file=stream, width=120, force_terminal=True)) as progress:
        progress(event(10, 0.5))
        progress(event(20, 0.25, error=0.125))
    assert "20/20" in stream.getvalue()
    assert "error 0.125" in stream.getvalue()
