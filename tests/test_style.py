"""What a reader relies on, checked in the syntax tree: short functions, abstract-or-final classes, docstrings."""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).resolve().parent.parent / "sciml"
FILES = sorted(PACKAGE.rglob("*.py"))
LONGEST_FILE, LONGEST_BODY, MOST_ARGUMENTS = 500, 50, 8
FORBIDDEN_CALLS = {"super", "hasattr", "eval", "exec"}
FORBIDDEN_IMPORTS = {"pickle", "dill", "cloudpickle", "shelve", "marshal"}
# Exceptions, each with its reason.
ALLOWED: dict[str, str] = {
    "diffeqsolve.py:diffeqsolve": "the seven positional arguments of diffrax.diffeqsolve, a penalty and its key",
}

TREES = {path: ast.parse(path.read_text()) for path in FILES}
by_file = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))


def functions(tree: ast.AST):
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


@by_file
def test_files_are_short(path):
    assert len(path.read_text().splitlines()) <= LONGEST_FILE or str(path.relative_to(PACKAGE)) in ALLOWED


@by_file
def test_function_bodies_are_short(path):
    for node in functions(TREES[path]):
        body = node.body[1:] if ast.get_docstring(node) else node.body
        lines = node.end_lineno - body[0].lineno + 1 if body else 0
        assert lines <= LONGEST_BODY or f"{path.name}:{node.name}" in ALLOWED, f"{node.name} has {lines} lines"


@by_file
def test_functions_take_few_arguments(path):
    for node in functions(TREES[path]):
        arguments = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
        count = len([name for name in arguments if name != "self"])
        assert count <= MOST_ARGUMENTS or f"{path.name}:{node.name}" in ALLOWED, f"{node.name} takes {count}"


@by_file
def test_no_call_or_import_that_hides_what_happens(path):
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in FORBIDDEN_CALLS, f"{path.name}:{node.lineno} calls {node.func.id}"
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
            assert not FORBIDDEN_IMPORTS & {module.split(".")[0] for module in modules}, path.name


def test_classes_are_abstract_or_final():
    classes = {node.name for tree in TREES.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.ClassDef):
                continue
            for base in node.bases:
                name = base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "")
                ours_and_concrete = name in classes and not name.startswith("Abstract")
                assert not ours_and_concrete, f"{path.name}: {node.name} subclasses the concrete class {name}"


@by_file
def test_public_names_have_docstrings(path):
    tree = TREES[path]
    assert ast.get_docstring(tree), f"{path.name} has no module docstring"
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{path.name}: {node.name} has no docstring"
