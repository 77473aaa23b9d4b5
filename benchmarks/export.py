"""How long does an exported operator take in onnxruntime, beside JAX and PyTorch?

    python benchmarks/export.py                          all cases, with 1 and 2 cores
    python benchmarks/export.py --case mgno --rounds 10
    python benchmarks/export.py --peer-python PATH       PyTorch lives in another environment

Equal weights, equal inputs, float32, the forward pass alone; outputs are compared before anything is timed. The first
contender is PyTorch without compilation, a ratio below 1 is faster. Contenders run in processes of their own, in turn
(see timer.py), all on the same cores. Needs the extras `export` and `peers`.
"""

import argparse
import os
import pathlib
import sys

import timer
import train_step
from timer import Case, Contender

RESULTS = pathlib.Path(__file__).resolve().parent / "results" / "export.json"


def cases(peer: str) -> dict[str, Case]:
    """One field, as in a solver, and a batch of them."""
    contenders = {
        name: (
            Contender("PyTorch", f"export:torch_{name}", peer),
            Contender("onnxruntime", f"export:onnx_{name}"),
            Contender("JAX", f"export:jax_{name}", env=train_step.OURS),
        )
        for name in ("fno", "mgno")
    }
    common = {"seed": 0, "size": 64}
    fno = {**common, "modes": (24, 24), "width": 32}
    return {
        "fno": Case({**fno, "batch": 1}, contenders["fno"]),
        "mgno": Case({**common, "batch": 1}, contenders["mgno"]),
        "fno-batch": Case({**fno, "batch": 16}, contenders["fno"]),
        "mgno-batch": Case({**common, "batch": 16}, contenders["mgno"]),
    }


def torch_fno(settings: dict) -> dict:
    """The FNO of neuraloperator; it leaves its weights for the others."""
    from peers import fno_torch

    return _forward(fno_torch.fno(settings))


def torch_mgno(settings: dict) -> dict:
    """The MgNO in PyTorch, in the layout that is fast there; it leaves its weights for the others."""
    from peers import mgno_torch

    return _forward(mgno_torch.mgno({**settings, "channels_last": True}))


def _forward(targets: dict) -> dict:
    return {name: targets[name] for name in ("forward", "outputs", "info")}


def jax_fno(settings: dict) -> dict:
    """Our FNO, compiled by JAX."""
    return _jax(train_step.fno_model(settings), settings)


def jax_mgno(settings: dict) -> dict:
    """Our MgNO, compiled by JAX."""
    return _jax(train_step.mgno_model(settings), settings)


def _jax(model, settings: dict) -> dict:
    import jax

    x, _ = train_step.fields(settings)
    apply = jax.jit(jax.vmap(model))
    info = {"jax": jax.__version__}
    return {"forward": lambda: jax.block_until_ready(apply(x)), "outputs": apply(x), "info": info}


def onnx_fno(settings: dict) -> dict:
    """Our FNO as an ONNX graph."""
    return _onnx(train_step.fno_model(settings), settings)


def onnx_mgno(settings: dict) -> dict:
    """Our MgNO as an ONNX graph."""
    return _onnx(train_step.mgno_model(settings), settings)


def _onnx(model, settings: dict) -> dict:
    import onnxruntime

    from sciml import export

    x, _ = train_step.fields(settings)
    path = pathlib.Path(settings["exchange"]) / "model.onnx"
    export.onnx(model, x.shape[1:], path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    forward = lambda: session.run(None, {"x": x})[0]
    info = {"onnxruntime": onnxruntime.__version__, "bytes": path.stat().st_size}
    return {"forward": forward, "outputs": forward(), "info": info}


def report(name: str, cores: int, rows: dict) -> None:
    """One line per contender."""
    print(f"\n{name}, {cores} cores")
    for contender, row in rows.items():
        if "not_measured" in row:
            print(f"  {contender:14}not measured: {row['not_measured']}")
            continue
        time = row["forward"]
        low, high = time.get("ratio_quartiles", (float("nan"),) * 2)
        error = row.get("max_error", float("nan"))
        print(
            f"  {contender:14}{time['seconds'] * 1e3:8.2f} ms {time.get('ratio', float('nan')):5.2f} "
            f"({low:4.2f}-{high:4.2f})  error {error:.1e}"
        )


def main() -> None:
    """Times the cases that the command line names, and writes the results after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", nargs="+", choices=list(cases("")), default=list(cases("")))
    parser.add_argument("--cores", nargs="+", type=int, default=[1, 2], help="numbers of cores (default 1 2)")
    parser.add_argument("--rounds", type=int, default=40, help="timed calls after each start (default %(default)s)")
    parser.add_argument("--starts", type=int, default=3, help="starts of all processes (default %(default)s)")
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter that has PyTorch (default: this)")
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS, help="result file (default %(default)s)")
    arguments = parser.parse_args()
    machine = timer.machine(max(arguments.cores))
    result = {"machine": machine, "rounds": arguments.rounds, "starts": arguments.starts, "cases": {}}
    table = cases(arguments.peer_python)
    for name in arguments.case:
        case = table[name]
        result["cases"][name] = {"settings": case.settings, "contenders": {}}
        for cores in arguments.cores:
            rows = timer.compare(list(case.contenders), case.settings, arguments.rounds, cores, arguments.starts)
            result["cases"][name]["contenders"][f"{cores} cores"] = rows
            report(name, cores, rows)
            timer.write(arguments.out, result)
    print(f"\nwritten to {arguments.out}; ratios are to PyTorch, quartiles over rounds")


if __name__ == "__main__":
    main()
