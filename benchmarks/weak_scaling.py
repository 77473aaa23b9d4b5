"""How long would a step of training take if one sample is cut over up to 512 devices, 128^3 points on each?

    python benchmarks/weak_scaling.py
    python benchmarks/weak_scaling.py --network-bandwidth 25e9 --node 4 --step-seconds fno=0.04 mgno=0.2 --out mine.json

Nothing is run: this is a model. What the devices send one another is read from the traced step, for meshes of any size
(`messages`), and compared with compiled programs of 8 devices. Each message takes the time that NCCL's own model gives
it, one after another, and no message is hidden behind computation, or, in a column of its own, those that can be.
Convolutions and products run one after another, each as long as its operations at a part of the vendor's rate
(`--share`, an assumption) or its bytes at that of the memory; then all other bytes are moved. `--step-seconds` puts the
measured time of a step on one device in their place.
"""

import argparse
import dataclasses
import functools
import heapq
import json
import math
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

os.environ.setdefault("JAX_NUM_CPU_DEVICES", "8")  # before JAX starts

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import timer
from jax.extend.core import Literal
from jax.interpreters import mlir
from jax.sharding import AbstractMesh, PartitionSpec

from sciml import cut, losses, metrics, nn, operators, parallel, train
from sciml.grid import Dirichlet, Grid
from sciml.nn import _stencils

RESULTS = pathlib.Path(__file__).resolve().parent / "results" / "weak_scaling.json"
POINTS = 128  # of a device along each axis
LAYOUTS = ((), (2,), (2, 2), (2, 2, 2), (4, 2, 2), (4, 4, 2), (4, 4, 4), (8, 4, 4), (8, 8, 4), (8, 8, 8))
CHECKED = (((2, 2, 2), 16), ((4, 2), 16), ((8,), 16))  # layouts, and points of a part, of compiled programs
COUNTED = 128  # points along each axis of the program of one device whose bytes are counted
SIZES = {"fno": {"modes": (32,) * 3, "width": 32, "depth": 4}, "mgno": {"width": 24, "depth": 4, "levels": 6}}
SMALL = {"fno": {"modes": (8, 8, 8), "width": 4, "depth": 2}, "mgno": {"width": 3, "depth": 2, "levels": 4}}
LOSS = losses.supervised(metrics.relative_l2)


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Rates of the devices and of what connects them; NVIDIA's for DGX H100.

    Attributes:
        flops: Operations per second of a device, float32 without tensor cores.
        share: Part of them that convolutions and products reach.
        memory: Bytes per second of a device's memory.
        link: Bytes per second that a device sends within a node.
        network: Bytes per second that a device sends to other nodes.
        node: Number of devices in a node.
        latency: Factor of all latencies of NCCL's model.
    """

    flops: float = 67e12
    share: float = 0.5
    memory: float = 3.35e12
    link: float = 450e9
    network: float = 50e9
    node: int = 8
    latency: float = 1.0


SOURCES = {
    "share": "an assumption; see --step-seconds",
    "flops": "NVIDIA H100 SXM data sheet: 67 teraFLOPS in FP32",
    "memory": "NVIDIA H100 SXM data sheet: 3.35 TB/s",
    "link": "NVIDIA H100 SXM data sheet: NVLink 900 GB/s, half of it in each direction",
    "network": "NVIDIA DGX H100 user guide: a ConnectX-7 port of 400 Gb/s for each of 8 GPUs",
    "latencies and shares of the bandwidth": "NVIDIA NCCL, src/graph/tuning.cc, baseLat, hwLat and ncclTopoTuneModel, "
    "commit b6475625fbcaa2c3c0e50eed2fa1255d7514d4a2",
}

# NCCL's protocols: seconds to begin, for a step within a node, for one between nodes; share of the bandwidth.
PAIRS = (
    (6.6e-6, 0.6e-6, 2.7e-6, 1 / 4),
    (8.4e-6, 3.4e-6, 14.0e-6, 1.0),
)  # LL, Simple: ring, for messages to neighbours
RING = (*PAIRS, (14.0e-6, 1.9e-6, 4.0e-6, 0.92))  # and LL128
TREE = ((6.8e-6, 0.6e-6, 5.0e-6, 0.92 / 3.8), (14.0e-6, 1.25e-6, 8.5e-6, 0.92 * 120 / 128), (0.0, 28e-6, 28e-6, 0.92))


ASSUMPTIONS = (
    "one sample of one field in and out, float32, all axes of space cut alike; 128^3 points on each device",
    "messages one after another, none hidden behind computation; the slowest device decides, so that an exchange with "
    "neighbours of which some are in other nodes takes the time of the network",
    "if messages overlap: one message and one convolution or product at a time, beside one another where neither waits "
    "for the other, in the order of a list schedule",
    "devices are numbered along the last axis first, as parallel.Layout places them: 8 along it share a node",
    "computation: convolutions and products one after another, each by its operations at `share` of `flops` or its "
    "bytes at `memory`, whichever is longer; then what else moves in a program of one device, as XLA counts bytes; "
    "work in ghost layers and on levels that all devices compute is added in proportion to convolutions and products",
    "transposing FFT: whole fields change places twice in each transform (pencils), no frequency is dropped before, at "
    "full bandwidth without latency",
)


@dataclasses.dataclass(frozen=True)
class Message:
    """One exchange of all devices: the kind of `parallel.Exchange`, bytes of its result, axes of the mesh."""

    kind: str
    size: int
    axes: tuple[str, ...]


KINDS = {
    **dict.fromkeys(("psum", "psum_invariant", "psum2"), "all-reduce"),
    **dict.fromkeys(("all_gather", "all_gather_invariant"), "all-gather"),
    **dict.fromkeys(("reduce_scatter", "psum_scatter"), "reduce-scatter"),
    "ppermute": "collective-permute",
    "all_to_all": "all-to-all",
}
"""Name of a primitive of JAX -> name of the operation of XLA."""


def fno(grid: Grid, **sizes: Any) -> operators.FNO:
    """An FNO with coordinates."""
    return operators.FNO(1, 1, grid=grid, key=jax.random.key(0), **(SIZES["fno"] | sizes))


def mgno(grid: Grid, **sizes: Any) -> operators.MgNO:
    """An MgNO of the published form."""
    return operators.MgNO(1, 1, grid=grid, key=jax.random.key(0), **(SIZES["mgno"] | sizes))


_FORMS = _stencils._forward, _stencils._input_gradient, _stencils._weight_gradient

CASES: dict[str, Callable[..., Any]] = {"fno": fno, "mgno": mgno}


def box(parts: tuple[int, ...], points: int) -> Grid:
    """A grid with so many points on each device."""
    return Grid(tuple(points * n for n in (*parts, 1, 1, 1)[:3]), boundary=Dirichlet())


def traced(make: Callable[[Grid], Any], parts: tuple[int, ...], points: int = POINTS) -> Any:
    """The program of a step of training on a part, of any number of devices, which need not exist.

    Args:
        make: From a grid to the operator.
        parts: Number of parts of each axis of space; none for one device.
        points: Points of a part along each axis.
    """
    grid, names = box(parts, points), cut.SPACE[: len(parts)]
    model = eqx.filter_eval_shape(make, grid)
    is_struct = lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct)
    arrays, static = eqx.partition(model, is_struct)
    on_modes = nn.acts_on_modes(arrays)
    field = jax.ShapeDtypeStruct((1, 1, *grid.shape), jnp.float32)

    def part(arrays: Any, batch: Any) -> Any:
        leaves, structure = jax.tree.flatten(arrays)
        each = zip(leaves, on_modes, strict=True)
        own = jax.tree.unflatten(structure, [leaf if modes else cut.cast(leaf, names) for leaf, modes in each])
        keys = cut.sample_keys(jax.random.key(0), batch)
        found = jax.value_and_grad(lambda own: LOSS(eqx.combine(own, static), batch, keys)[0])(own)
        varying = [leaf.ravel() for leaf in jax.tree.leaves(found) if cut.varying(leaf)]
        return jax.lax.psum(jnp.concatenate(varying), names) if varying else jnp.zeros(0)

    if not parts:
        return jax.make_jaxpr(part)(arrays, (field, field)).jaxpr
    fields, everywhere = PartitionSpec(None, None, *names), PartitionSpec()
    placed = {"in_specs": (everywhere, fields), "out_specs": everywhere}
    on_parts = jax.shard_map(part, mesh=AbstractMesh(parts, names), **placed)
    return jax.make_jaxpr(on_parts)(arrays, (field, field)).jaxpr


def equations(jaxpr: Any) -> Iterator[Any]:
    """The operations of a program, also those inside of others."""
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from equations(inner)


def message(equation: Any) -> Message | None:
    """What an operation sends."""
    kind = KINDS.get(equation.primitive.name)
    if kind is None:
        return None
    given = equation.params.get("axes", equation.params.get("axis_name"))
    size = sum(out.aval.size * out.aval.dtype.itemsize for out in equation.outvars)
    return Message(kind, size, (given,) if isinstance(given, str) else tuple(given))


def messages(program: Any) -> list[Message]:
    """What the devices send, in the order of a traced program."""
    return [sent for one in equations(program) if (sent := message(one)) is not None]


def kernel(equation: Any) -> tuple[float, float] | None:
    """Operations and bytes of a convolution or product; None for all else, which a compiler fuses."""
    name, shapes = equation.primitive.name, [var.aval.shape for var in equation.invars]
    moved = sum(math.prod(var.aval.shape) * var.aval.dtype.itemsize for var in (*equation.invars, *equation.outvars))
    if name.startswith("correlation"):
        stencil, (first, second) = equation.params["static"], shapes
        channels = first[-1] * second[-1] if name.endswith("weight_gradient") else math.prod(second[-2:])
        return 2.0 * first[0] * math.prod(stencil.coarse) * math.prod(stencil.kernel) * channels, moved
    if name == "dot_general":
        ((summed, _), _), (out,) = equation.params["dimension_numbers"], equation.outvars
        return 2.0 * math.prod(out.aval.shape) * math.prod(shapes[0][axis] for axis in summed), moved
    return None


def kernel_seconds(equation: Any, cluster: Cluster) -> float:
    """The time of a convolution or product by its operations or bytes, whichever is longer; 0 for all else."""
    flops, moved = kernel(equation) or (0.0, 0.0)
    return max(flops / (cluster.share * cluster.flops), moved / cluster.memory)


def kernels_seconds(program: Any, cluster: Cluster) -> float:
    """The time of all convolutions and products of a traced program, one after another."""
    return sum(kernel_seconds(one, cluster) for one in equations(program))


def step_seconds(program: Any, counted_bytes: float, cluster: Cluster) -> float:
    """The time of a step of one device: convolutions and products, then the bytes that these do not move."""
    moved = sum(found[1] for one in equations(program) if (found := kernel(one)))
    return kernels_seconds(program, cluster) + max(0.0, counted_bytes - moved) / cluster.memory


@dataclasses.dataclass(frozen=True)
class Task:
    """An operation of a program: its time as a convolution or product, what it sends, the tasks that it waits for."""

    seconds: float
    sent: Message | None
    after: frozenset[int]


def tasks(program: Any, cluster: Cluster) -> list[Task]:
    """The operations of a traced program, in its order, those of inner programs in their place."""
    found: list[Task] = []

    def walk(jaxpr: Any, given: list[int | None]) -> list[int | None]:
        made = dict(zip(jaxpr.invars, given, strict=True))
        source = lambda var: None if isinstance(var, Literal) else made.get(var)
        for one in jaxpr.eqns:
            inputs = [source(var) for var in one.invars]
            inner = [getattr(value, "jaxpr", value) for value in one.params.values()]
            inner = [value for value in inner if hasattr(value, "eqns") and len(value.invars) == len(inputs)]
            if inner:
                outputs = walk(inner[0], inputs)
            else:
                after = frozenset(i for i in inputs if i is not None)
                found.append(Task(kernel_seconds(one, cluster), message(one), after))
                outputs = [len(found) - 1] * len(one.outvars)
            made.update(zip(one.outvars, outputs, strict=True))
        return [source(var) for var in jaxpr.outvars]

    walk(program, [None] * len(program.invars))
    return found


def overlapped(program: Any, parts: tuple[int, ...], cluster: Cluster, longer: float) -> float:
    """Seconds of a traced step whose messages travel while other operations are computed that do not wait for them.

    One stream of computation and one of messages. Each takes, of what it can begin, the task with the longest way to
    the end of the step: a list schedule, as XLA's latency hiding scheduler makes one. Convolutions and products take
    `longer` times their own time, with what is fused to them.
    """
    each = tasks(program, cluster)
    cost = [seconds(one.sent, parts, cluster) if one.sent else one.seconds * longer for one in each]
    followers: list[list[int]] = [[] for _ in each]
    for i, one in enumerate(each):
        for j in one.after:
            followers[j].append(i)
    way = [0.0] * len(each)
    for i in reversed(range(len(each))):
        way[i] = cost[i] + max((way[j] for j in followers[i]), default=0.0)
    waits, ready, events = [len(one.after) for one in each], ([], []), []
    busy, now = [False, False], 0.0

    def release(i: int) -> None:
        heapq.heappush(ready[each[i].sent is not None], (-way[i], i))

    for i in range(len(each)):
        if not waits[i]:
            release(i)
    while events or any(ready):
        for stream in (0, 1):
            if ready[stream] and not busy[stream]:
                i = heapq.heappop(ready[stream])[1]
                busy[stream] = True
                heapq.heappush(events, (now + cost[i], stream, i))
        now, stream, i = heapq.heappop(events)
        busy[stream] = False
        for j in followers[i]:
            waits[j] -= 1
            if not waits[j]:
                release(j)
    return now


def compiled(make: Callable[[Grid], Any], parts: tuple[int, ...], points: int) -> Any:
    """The compiled step of `train.make_step` on this machine's devices, for one sample."""
    grid, optimiser = box(parts, points), optax.adam(1e-3)
    placement = parallel.Layout(data=1, space=parts).on(1, grid.shape) if parts else None
    step = train.make_step(LOSS, optimiser, placement=placement)
    state = train.place(train.init(make(grid), optimiser), placement)
    items = tuple(np.zeros((1, 1, 1, *grid.shape), np.float32) for _ in "xy")  # memory that is never touched
    return step.lower(state, None, items)[0].compile().compiled


def compared(make: Callable[[Grid], Any], parts: tuple[int, ...], points: int) -> dict[str, Any]:
    """Numbers and bytes of the messages by kind: as traced, and in the compiled program of these devices."""
    expected = messages(traced(make, parts, points))
    program = parallel.exchanges(compiled(make, parts, points).as_text(), math.prod(parts))
    both = {"traced": expected, "compiled": [one for one in program if one.devices > 1]}
    return {
        name: {
            kind: {"messages": len(sizes), "bytes": sum(sizes)}
            for kind in sorted({one.kind for one in found})
            if (sizes := [one.size for one in found if one.kind == kind])
        }
        for name, found in both.items()
    }


def plain_convolutions() -> None:
    """Compiles convolutions as for GPUs from now on; the form for CPUs is many small ones on large fields."""
    for primitive, form in zip(_stencils.correlation._maps, _FORMS, strict=True):
        plain = lambda a, b, *, static, form=form: form(a, b, static)
        mlir.register_lowering(primitive, mlir.lower_fun(plain, multiple_results=False), platform="cpu")


def computation(make: Callable[[Grid], Any], points: int) -> dict[str, float]:
    """Bytes per point that a step on one device moves, as its compiler counts them."""
    plain_convolutions()
    return {"bytes": compiled(make, (), points).cost_analysis()["bytes accessed"] / points**3}


def seconds(message: Message, parts: tuple[int, ...], cluster: Cluster) -> float:
    """The time of a message by NCCL's model, with the fastest of its protocols."""
    nodes = np.arange(math.prod(parts)).reshape(parts) // cluster.node
    along = tuple(cut.SPACE.index(name) for name in message.axes)
    if message.kind == "collective-permute":
        crossing = any((np.roll(nodes, 1, axis) != nodes).any() for axis in along)
        rate = cluster.network if crossing else cluster.link
        options = [(begin + (far if crossing else near), rate * share) for begin, near, far, share in PAIRS]
        return min(cluster.latency * wait + message.size / speed for wait, speed in options)
    group = np.moveaxis(nodes, along, range(len(along))).reshape(math.prod(parts[axis] for axis in along), -1)
    devices, many = len(group), max(len(set(column)) for column in group.T)
    each = max(1, devices // many)
    rate = cluster.link if many == 1 else min(cluster.link, each * cluster.network)
    if message.kind == "all-reduce":
        tree = [(b + 2 * ((each - 1) * near + math.log2(many) * far), 2 / share) for b, near, far, share in TREE]
        return min(cluster.latency * wait + times * message.size / rate for wait, times in tree)
    sent = message.size * (devices - 1) * (1 if message.kind == "reduce-scatter" else 1 / devices)
    ring = [(b + (devices - many) * near + (many - 1) * far, share) for b, near, far, share in RING]
    return min(cluster.latency * wait + sent / (rate * share) for wait, share in ring)


def transposed(parts: tuple[int, ...], cluster: Cluster) -> float:
    """Seconds of the messages of an FNO whose FFT transposes whole fields: pencils, no frequency dropped before."""
    devices, size = math.prod(parts), SIZES["fno"]
    if devices == 1:
        return 0.0
    pencil = POINTS**3 / 2 * 8 * size["width"]  # half of the frequencies of a real field, complex64
    rate = cluster.link if devices <= cluster.node else cluster.network
    exchanges = size["depth"] * 2 * 2 * 2  # two for each transform, there and back, and all that for the gradient
    return exchanges * pencil * (devices - 1) / devices / rate


def predicted(name: str, cluster: Cluster, cost: dict[str, float], step: float | None) -> list[dict[str, Any]]:
    """A row for each number of devices."""
    rows, alone = [], traced(CASES[name], ())
    once = step_seconds(alone, cost["bytes"] * POINTS**3, cluster) if step is None else step
    longer = once / kernels_seconds(alone, cluster)
    for parts in LAYOUTS:
        program = traced(CASES[name], parts)
        compute = longer * kernels_seconds(program, cluster)
        sent = messages(program)
        by_kind = {kind: [one for one in sent if one.kind == kind] for kind in sorted({one.kind for one in sent})}
        times = {kind: sum(seconds(one, parts, cluster) for one in found) for kind, found in by_kind.items()}
        total = compute + sum(times.values())
        row = {
            "devices": math.prod(parts),
            "grid": "x".join(map(str, box(parts, POINTS).shape)),
            "messages": {kind: len(found) for kind, found in by_kind.items()},
            "bytes": {kind: sum(one.size for one in found) for kind, found in by_kind.items()},
            "compute_seconds": compute,
            "message_seconds": times,
            "step_seconds": total,
            "efficiency": once / total,
            "efficiency_if_messages_overlap": once / overlapped(program, parts, cluster, longer),
            "efficiency_if_computation_takes_half": once / (total + sum(times.values())),
            "efficiency_if_computation_takes_twice": 2 * once / (total + compute),
        }
        if name == "fno":
            row["efficiency_of_a_transposing_fft"] = once / (once + transposed(parts, cluster))
        rows.append(row)
    return rows


def of_each_stencil(cluster: Cluster) -> list[dict[str, Any]]:
    """What an MgNO would send if each stencil of its cycles exchanged faces by itself."""
    known, rows = nn.VCycle._goes_down_and_up, []
    nn.VCycle._goes_down_and_up = lambda self: False
    for parts in LAYOUTS[3::3]:
        sent = messages(traced(mgno, parts))
        size, time = sum(one.size for one in sent), sum(seconds(one, parts, cluster) for one in sent)
        rows.append({"devices": math.prod(parts), "messages": len(sent), "bytes": size, "message_seconds": time})
    nn.VCycle._goes_down_and_up = known
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as text."""
    lines = [f"{'devices':>8} {'grid':>16} {'messages':>9} {'MiB':>7} {'ms':>7} {'of it sent':>10} {'efficiency':>10}"]
    for row in rows:
        count, size = sum(row["messages"].values()), sum(row["bytes"].values()) / 2**20
        sent = sum(row["message_seconds"].values())
        lines.append(
            f"{row['devices']:8} {row['grid']:>16} {count:9} {size:7.1f} {1e3 * row['step_seconds']:7.1f} "
            f"{1e3 * sent:10.2f} {row['efficiency']:10.3f}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for field in dataclasses.fields(Cluster):
        more = "-bandwidth" if field.name in ("link", "network", "memory") else ""
        kind = type(field.default)
        parser.add_argument(f"--{field.name}{more}", dest=field.name, type=kind, default=field.default)
    parser.add_argument("--step-seconds", nargs="+", default=[], metavar="NAME=SECONDS", help="of one device, measured")
    parser.add_argument("--case", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    given = parser.parse_args()
    cluster = Cluster(**{field.name: getattr(given, field.name) for field in dataclasses.fields(Cluster)})
    steps = {name: float(value) for name, value in (one.split("=") for one in given.step_seconds)}
    known = json.loads(RESULTS.read_text())["cases"] if RESULTS.exists() else {}
    result = {"jax": jax.__version__, "points_of_a_device": POINTS**3, "cluster": dataclasses.asdict(cluster)}
    result |= {"sources": SOURCES, "assumptions": ASSUMPTIONS, "cases": {}}
    for name in given.case:
        case = result["cases"][name] = {"sizes": SIZES[name], **known.get(name, {})}
        if given.out == RESULTS or not known:
            small = functools.partial(CASES[name], **SMALL[name])
            checked = [(words(parts), points, compared(small, parts, points)) for parts, points in CHECKED]
            case["checked"] = {
                "sizes": SMALL[name],
                "programs": [{"layout": one, "points_of_a_part": [n] * 3, **found} for one, n, found in checked],
            }
            case["counted_per_point"] = computation(CASES[name], COUNTED)
        if name == "mgno":
            case["if_each_stencil_exchanged"] = of_each_stencil(cluster)
        case["predicted"] = predicted(name, cluster, case["counted_per_point"], steps.get(name))
        print(f"{name}\n{table(case['predicted'])}", flush=True)
        timer.write(given.out, result)


def words(parts: tuple[int, ...]) -> str:
    """The layout of these parts as the command line has it."""
    return f"space={'x'.join(map(str, parts))}"


if __name__ == "__main__":
    main()
