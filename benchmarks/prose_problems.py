"""The model and the batch of prose_decoding.py: arrays from seeds, without JAX or PyTorch.

Weights have the names and the layout of the state dict of PROSE-ODE's published code.
"""

from collections.abc import Iterator

import numpy as np

ALL_TIMES = 192  # of a trajectory; the first `data` of them are given

Entry = tuple[str, tuple[int, ...]]


def _matrix(name: str, out: int, into: int) -> list[Entry]:
    return [(f"{name}.weight", (out, into)), (f"{name}.bias", (out,))]


def _norm(name: str, width: int) -> list[Entry]:
    return [(f"{name}.weight", (width,)), (f"{name}.bias", (width,))]


def _layers(name: str, settings: dict, attentions: dict[str, str]) -> Iterator[Entry]:
    """A stack; `attentions` has the name of the normalisation behind each attention."""
    width, hidden = settings["width"], settings["hidden"]
    yield from _norm(f"{name}.layer_norm_emb", width)
    for i in range(settings["layers"][name]):
        for attention, norm in attentions.items():
            own = f"{name}.{attention}.{i}.attn"
            yield from [(f"{own}.in_proj_weight", (3 * width, width)), (f"{own}.in_proj_bias", (3 * width,))]
            yield from _matrix(f"{own}.out_proj", width, width)
            yield from _norm(f"{name}.{norm}.{i}", width)
        yield from _matrix(f"{name}.ffns.{i}.lin1", hidden, width)
        yield from _matrix(f"{name}.ffns.{i}.lin2", width, hidden)
        yield from _norm(f"{name}.layer_norm2.{i}", width)


def _entries(settings: dict) -> Iterator[Entry]:
    width, components, words = settings["width"], settings["components"], settings["vocabulary"]
    yield from _matrix("embedder.0", width, 1 + components)
    yield from _matrix("embedder.2", width, width)
    yield from _matrix("data_decoder.query_embedder", width, 1)
    yield from _matrix("data_decoder.proj", components, width)
    yield "fusion.type_embeddings.weight", (2, width)
    for name in ("text_encoder", "text_decoder"):
        yield f"{name}.embeddings.weight", (words, width)
    yield "text_decoder.proj.bias", (words,)
    for name in ("data_encoder", "data_decoder", "text_encoder", "fusion"):
        yield from _layers(name, settings, {"attentions": "layer_norm1"})
    yield from _layers("text_decoder", settings, {"attentions": "layer_norm1", "encoder_attn": "layer_norm15"})


def weights(settings: dict) -> dict[str, np.ndarray]:
    """Matrices of variance 1 / inputs, normalisations 1 and 0, no biases, tables of deviation 1 / sqrt(width)."""
    rng = np.random.default_rng(settings["seed"])
    arrays = {}
    for name, shape in _entries(settings):
        if len(shape) == 2:
            arrays[name] = rng.standard_normal(shape, np.float32) / np.float32(shape[1] ** 0.5)
        else:
            arrays[name] = np.full(shape, "norm" in name and name.endswith("weight"), np.float32)
    for name in ("text_encoder", "text_decoder"):
        arrays[f"{name}.position_embeddings.weight"] = positions(settings["positions"], settings["width"])
    return arrays


def positions(length: int, width: int) -> np.ndarray:
    """The sinusoidal table."""
    j = np.arange(width)
    angles = np.arange(length)[:, None] / 10_000 ** (2 * (j // 2) / width)
    return np.where(j % 2 == 0, np.sin(angles), np.cos(angles)).astype(np.float32)


def batch(settings: dict) -> dict[str, np.ndarray]:
    """Trajectories, guesses of different lengths and equations of random numbers and tokens."""
    rng = np.random.default_rng(100 + settings["seed"])
    count, guess, words = settings["batch"], settings["guess"], settings["vocabulary"]
    lengths = rng.integers(guess // 2, guess + 1, (count, 1))
    return {
        "times": np.tile(np.linspace(0, 6, ALL_TIMES, dtype=np.float32), (count, 1)),
        "states": rng.standard_normal((count, ALL_TIMES, settings["components"]), np.float32),
        "tokens": rng.integers(0, words, (count, guess), np.int32),
        "tokens_mask": np.arange(guess) < lengths,
        "equation": rng.integers(0, words, (count, settings["length"] + 1), np.int32),
    }
