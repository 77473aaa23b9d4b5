"""Imports point strictly down: the layers of docs/decisions.md."""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).resolve().parent.parent / "sciml"

LAYER = {
    "grid": 0,
    "metrics": 0,
    "rollout": 0,
    "symbolic": 0,
    "nn": 1,
    "pdes": 1,
    "operators": 2,
    "nde": 2,
    "data": 2,
    "losses": 3,
    "prose": 3,
    "published": 3,
    "baselines": 3,
    "interop": 3,
    "train": 4,
    "plot": 5,
    "_process": 5,
    "_run_folder": 5,
    "_settings": 5,
    "_experiment_file": 5,
    "_fields": 6,
    "_figures": 6,
    "_training": 6,
    "experiment": 7,
    "benchmark": 8,
    "comparison": 8,
    "predict": 8,
    "_commands": 9,
    "__main__": 10,
}
# Within one layer an area may import these; every other pair of one layer is independent.
SAME_LAYER = {("metrics", "grid"), ("prose", "losses"), ("interop", "prose")}


def area(path: pathlib.Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(path: pathlib.Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            if node.module == "sciml":
                names |= {f"sciml.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name for name in names if name.split(".")[0] == "sciml" and name.count(".")}


FILES = sorted(path for path in PACKAGE.rglob("*.py") if area(path) != "__init__")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path):
    here = area(path)
    for name in imported(path):
        there = name.split(".")[1]
        if there == here or there.startswith("__version"):
            continue
        assert there in LAYER, f"{path}: {name} has no layer; add it to the table"
        assert LAYER[there] < LAYER[here] or (here, there) in SAME_LAYER, f"{path}: {here} must not import {there}"
        assert here != "train" or there == "nn", f"{path}: the engine knows no model, it imported {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_private_modules_are_imported_by_their_own_area_alone(path):
    for name in imported(path):
        parts = name.split(".")
        private = [part for part in parts[2:] if part.startswith("_")]
        assert not private or parts[1] == area(path), f"{path}: imports the private module {name}"
