"""Imports point strictly down over the layers of docs/decisions.md, and private modules stay inside their area."""

import ast
import pathlib

PACKAGE = pathlib.Path(__file__).resolve().parent.parent / "sciml"

LAYER = {
    "files": 0,
    "cut": 0,
    "grid": 0,
    "metrics": 0,
    "losses": 0,
    "rollout": 0,
    "symbolic": 0,
    "nn": 1,
    "parallel": 1,
    "pdes": 1,
    "plot": 1,
    "operators": 2,
    "data": 2,
    "nde": 2,
    "preconditioners": 2,
    "systems": 3,
    "prose": 3,
    "uq": 3,
    "zoo": 3,
    "interop": 3,
    "structure": 4,
    "train": 4,
    "experiment": 5,
    "tasks": 6,
    "export": 6,
    "benchmark": 7,
    "report": 7,
    "cli": 8,
    "__main__": 9,
}
# Within one layer an area may import these; every other pair of one layer is independent.
SAME_LAYER = {
    ("metrics", "grid"),
    ("grid", "cut"),
    ("metrics", "cut"),
    ("losses", "cut"),
    ("losses", "metrics"),
    ("losses", "rollout"),
    ("prose", "systems"),
    ("interop", "prose"),
}

FILES = {path.relative_to(PACKAGE): ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}


def area(path: pathlib.Path) -> str:
    return path.with_suffix("").parts[0]


def imported(tree: ast.Module) -> set[str]:
    """Dotted names of the package's modules and objects that a file imports, `sciml` left off."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "sciml":
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names if alias.name.startswith("sciml.")}
    return {name.removeprefix("sciml.") for name in names}


def test_every_area_has_a_layer():
    assert {area(path) for path in FILES} - {"__init__"} == set(LAYER)


def test_imports_point_down():
    for path, tree in FILES.items():
        here = area(path)
        for name in imported(tree):
            there = name.split(".")[0]
            if there in (here, "__version__"):
                continue
            assert there in LAYER, f"{path}: {name} has no layer; add it to the table"
            assert LAYER[there] < LAYER[here] or (here, there) in SAME_LAYER, f"{path}: {here} must not import {there}"
            assert here != "train" or there in ("cut", "files", "nn", "losses", "parallel"), (
                f"{path}: the engine knows no model, it imported {name}"
            )


def test_private_parts_of_a_path_are_imported_by_their_own_area_alone():
    for path, tree in FILES.items():
        for name in imported(tree):
            parts = name.split(".")
            private = [part for part in parts if part.startswith("_") and not part.startswith("__")]
            assert not private or parts[0] == area(path), f"{path}: imports {name}, which is private"


def test_public_paths_have_two_levels():
    for path in FILES:
        inner = path.with_suffix("").parts[1:]
        if area(path) != "__main__" and len(path.parts) > 1 and inner != ("__init__",):
            assert inner[0].startswith("_"), f"{path} has a public path of three levels; rename it to _{inner[0]}"
