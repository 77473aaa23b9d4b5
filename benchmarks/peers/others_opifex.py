"""The Darcy and Burgers pairs of opifex, and its Fourier neural operator trained on them as its examples do.

    python benchmarks/peers/others_opifex.py darcy data FILE
    python benchmarks/peers/others_opifex.py darcy train FILE --seed 0 --epochs 200 [--apply-lr]

Run by benchmarks/others.py in an interpreter with opifex 0.2. `data` writes the pairs to an .npz file, `train` prints
one line of JSON. The settings are those of examples/neural-operators/fno_darcy.py and fno_burgers.py and of their pages
in docs/examples; weights and pairs have seed 42 there, and seed k here adds k to that of the weights.

Pairs are read from opifex's loaders, as the examples do. A loader shuffles anew for each batch, so that its training
pairs repeat some samples and leave others out, and it fills the last batch of test pairs with the first ones.

The examples set the learning rate in `OptimizationConfig`, but `TrainingConfig` of opifex 0.2.0 puts its own default of
1e-3 in its place. The rate that is used stands in the result; `--apply-lr` trains with the one that the example prints.
"""

import argparse
import dataclasses
import importlib.metadata
import json
import time

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from opifex.core.evaluation import predict_in_batches
from opifex.core.normalization import GaussianNormalizer
from opifex.core.training import Trainer, TrainingConfig
from opifex.core.training.config import LossConfig, OptimizationConfig
from opifex.data.loaders import create_burgers_loader, create_darcy_loader
from opifex.neural.operators.fno.base import FourierNeuralOperator

SEED = 42


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Settings of an example. Its network has coordinates as inputs, here by the option of the class."""

    load: object
    pairs: tuple[int, int]
    settings: dict
    batch: int
    lr: float
    network: dict


PROTOCOLS = {
    "darcy": Protocol(
        load=create_darcy_loader,
        pairs=(1000, 100),
        settings={"resolution": 32},
        batch=32,
        lr=5e-3,
        network={"hidden_channels": 32, "modes": 12, "domain_padding": 0.25, "spatial_dims": 2},
    ),
    "burgers": Protocol(
        load=create_burgers_loader,
        pairs=(1000, 200),
        settings={"resolution": 128, "viscosity_range": (0.1, 0.1)},
        batch=20,
        lr=1e-3,
        network={"hidden_channels": 128, "modes": 16, "spatial_dims": 1},
    ),
}


def versions() -> dict[str, str]:
    """Of the packages that decide on the data and the result."""
    return {name: importlib.metadata.version(name) for name in ("opifex", "datarax", "flax", "jax", "optax")}


def write_data(protocol: Protocol, path: str) -> None:
    """Writes the pairs as the loaders give them."""
    count = sum(protocol.pairs)
    shares = {"n_samples": count, "val_fraction": protocol.pairs[1] / count, "batch_size": protocol.batch}
    loaders = protocol.load(**shares, **protocol.settings, seed=SEED)
    arrays = {}
    for part, pipeline in (("train", loaders.train), ("test", loaders.val)):
        batches = list(pipeline)
        for name, field in (("x", "input"), ("y", "output")):
            arrays[f"{name}_{part}"] = np.concatenate([np.asarray(batch[field]) for batch in batches])
    np.savez(path, versions=json.dumps(versions()), **arrays)


def config_of(protocol: Protocol, epochs: int, apply_lr: bool, ends: list[float]) -> TrainingConfig:
    """The example's training; `ends` receives the CPU time at the end of each epoch."""
    optimisation = OptimizationConfig(
        optimizer="adamw",
        learning_rate=protocol.lr,
        weight_decay=1e-4,
        schedule_type="exponential",
        transition_steps=60 * max(1, protocol.pairs[0] // protocol.batch),
        decay_rate=0.5,
    )
    return TrainingConfig(
        num_epochs=epochs,
        batch_size=protocol.batch,
        validation_frequency=20,
        loss_config=LossConfig(loss_type="relative_l2"),
        optimization_config=optimisation,
        progress_callback=lambda epoch, metrics: ends.append(time.process_time()),
        **({"learning_rate": protocol.lr} if apply_lr else {}),
    )


def train(protocol: Protocol, path: str, seed: int, epochs: int, apply_lr: bool) -> dict:
    """Error and cost of the network after its training."""
    with np.load(path, allow_pickle=False) as file:
        x, y, x_test, y_test = (file[name] for name in ("x_train", "y_train", "x_test", "y_test"))
    of_x, of_y, ends = GaussianNormalizer.fit(x), GaussianNormalizer.fit(y), []
    rngs = [nnx.Rngs(SEED + seed) for _ in range(2)]
    network = FourierNeuralOperator(
        in_channels=1, out_channels=1, num_layers=4, positional_embedding=True, rngs=rngs[0], **protocol.network
    )
    config = config_of(protocol, epochs, apply_lr, ends)
    normal = lambda x, y: (jnp.asarray(of_x.normalize(x)), jnp.asarray(of_y.normalize(y)))
    started, begin = time.perf_counter(), time.process_time()
    trained, _ = Trainer(model=network, config=config, rngs=rngs[1]).fit(normal(x, y), normal(x_test, y_test))
    seconds = time.perf_counter() - started
    prediction = of_y.denormalize(predict_in_batches(trained, normal(x_test, y_test)[0]))
    difference = (np.asarray(prediction, np.float64) - y_test).reshape(len(y_test), -1)
    errors = np.linalg.norm(difference, axis=1) / np.linalg.norm(y_test.reshape(len(y_test), -1), axis=1)
    return {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(nnx.state(network, nnx.Param))),
        "lr": config.optimization_config.learning_rate,
        "relative_l2": float(errors.mean()),
        "deviation_over_samples": float(errors.std()),
        "seconds": seconds,
        "cpu_seconds": ends[-1] - begin,
        "epoch_cpu_seconds": float(np.median(np.diff(ends if epochs > 1 else [begin, *ends]))),
        "versions": versions(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("problem", choices=PROTOCOLS)
    parser.add_argument("what", choices=("data", "train"))
    parser.add_argument("file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--apply-lr", action="store_true", help="train with the rate that the example prints")
    options = parser.parse_args()
    protocol = PROTOCOLS[options.problem]
    if options.what == "data":
        write_data(protocol, options.file)
    else:
        print(json.dumps(train(protocol, options.file, options.seed, options.epochs, options.apply_lr)))


if __name__ == "__main__":
    main()
