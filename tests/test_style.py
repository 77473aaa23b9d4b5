"""What a reader relies on, checked in the text and the syntax tree: short functions, docstrings, nothing twice."""

import ast
import collections
import io
import keyword
import pathlib
import re
import tokenize

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "sciml"
TEXTS = {path: path.read_text() for path in sorted(PACKAGE.rglob("*.py")) if "_experiments" not in path.parts}
TREES = {path: ast.parse(text) for path, text in TEXTS.items()}
LONGEST_FILE, SHORT_FILE, LONGEST_BODY, MOST_ARGUMENTS, REPETITION = 500, 60, 50, 8, 6
FORBIDDEN_CALLS = {"super", "hasattr", "eval", "exec"}
FORBIDDEN_IMPORTS = {"pickle", "dill", "cloudpickle", "shelve", "marshal"}
OPTIONAL = {
    *("flax", "sympy", "sklearn", "tensorboardX", "wandb", "mlflow", "sqlalchemy", "imageio_ffmpeg"),
    *("xarray", "zarr", "h5netcdf", "hdf5plugin", "blackjax", "onnx", "onnxruntime", "torch"),
    *("foundax", "pdequinox", "exponax", "safetensors"),
}

# Exceptions, each with its reason.
ALLOWED: dict[str, str] = {
    "nde/_solve/diffeqsolve.py:diffeqsolve": "the arguments of diffrax.diffeqsolve, a regulariser and its key",
}
SHORT_BUT_ALONE: dict[str, str] = {
    "cli/_data.py": "a file for each group of commands",
    "data/_readers/_netcdf.py": "a file for each format",
    "data/_readers/_npz.py": "a file for each format",
    "train/_old_names.py": "a table that grows with every renaming",
}
TWICE: dict[frozenset[str], str] = {
    frozenset({"nde/_ode/neural_ode.py", "nde/_solve/solve.py"}): "a model is solved with the arguments of its solve",
    frozenset({"nn/_conv.py", "nn/_scaling.py"}): "arguments of convolutions",
    frozenset(f"operators/_{one}.py" for one in ("fno", "tfno", "ffno")): "arguments of Fourier networks",
    frozenset(
        f"operators/_{one}.py"
        for one in ("cno", "convnet", "convnext", "deeponet", "mgno", "residual_mgno", "resnet", "transolver", "unet")
    ): "arguments of operators on one grid",
    frozenset({"prose/_model/field_forecast.py", "prose/_model/model.py"}): "both models are called alike",
    frozenset({"experiment/_run.py"}): "an experiment is run from a file, or as an object, with the same options",
    frozenset({"plot/_fields.py"}): "images and lines are drawn from the same arguments",
    frozenset({"systems/_shards.py"}): "a set is generated and found again by the same arguments",
}
# Files whose functions may hold runs of six lines that differ in names and numbers only, each with its reason.
ALIKE: dict[frozenset[str], str] = {
    frozenset({"prose/_samples/dataset.py", "prose/_samples/fluid_data.py"}): "fields of two samples",
    frozenset({"symbolic/_latex.py"}): "cases of one choice",
    frozenset({"symbolic/_sympy.py", "tasks/_prose.py"}): "keywords of two constructors",
    frozenset({"symbolic/_tree.py"}): "one line for each operation",
    frozenset({"symbolic/_vocabulary.py"}): "a list of words",
}


def name(path):
    return str(path.relative_to(PACKAGE))


def functions(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def lines_of(function):
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return function.end_lineno - body[0].lineno + 1 if body else 0


def arguments_of(function):
    known = (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)
    return len([argument for argument in known if argument.arg != "self"])


def every_function():
    return [(f"{name(path)}:{found.name}", found) for path, tree in TREES.items() for found in functions(tree)]


def test_files_are_short():
    lengths = {name(path): len(text.splitlines()) for path, text in TEXTS.items()}
    assert {file: length for file, length in lengths.items() if length > LONGEST_FILE and file not in ALLOWED} == {}


def test_function_bodies_are_short():
    lengths = {place: lines_of(function) for place, function in every_function() if place not in ALLOWED}
    assert {place: length for place, length in lengths.items() if length > LONGEST_BODY} == {}


def test_functions_take_few_arguments():
    counts = {place: arguments_of(function) for place, function in every_function() if place not in ALLOWED}
    assert {place: count for place, count in counts.items() if count > MOST_ARGUMENTS} == {}


def modules_of(node):
    """What an import statement names, without the package's own modules."""
    names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
    return {module.split(".")[0] for module in names}


def test_no_call_or_import_that_hides_what_happens():
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in FORBIDDEN_CALLS, f"{name(path)}:{node.lineno} calls {node.func.id}"
            if isinstance(node, ast.Import | ast.ImportFrom):
                assert not FORBIDDEN_IMPORTS & modules_of(node), f"{name(path)}:{node.lineno}"


def test_optional_packages_are_imported_where_they_are_used():
    for path, tree in TREES.items():
        for node in tree.body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                assert not OPTIONAL & modules_of(node), f"{name(path)}:{node.lineno}: import it inside of the function"


def test_classes_are_abstract_or_final():
    classes = {node.name for tree in TREES.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.ClassDef):
                continue
            for base in node.bases:
                parent = base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "")
                ours_and_concrete = parent in classes and not parent.startswith("Abstract")
                assert not ours_and_concrete, f"{name(path)}: {node.name} subclasses the concrete class {parent}"


def test_public_names_have_docstrings():
    for path, tree in TREES.items():
        assert ast.get_docstring(tree), f"{name(path)} has no module docstring"
        for node in tree.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{name(path)}: {node.name} has no docstring"


def importers():
    """For each module, the files of the package that import it or a name from it."""
    found = collections.defaultdict(set)
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                for module in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names)):
                    found[module].add(name(path))
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    found[alias.name].add(name(path))
    return found


def test_a_short_file_that_one_neighbour_uses_joins_it():
    used = importers()
    alone = {}
    for path, text in TEXTS.items():
        if len(text.splitlines()) >= SHORT_FILE or path.name == "__init__.py" or path.parent == PACKAGE:
            continue
        users = used[".".join(("sciml", *path.relative_to(PACKAGE).with_suffix("").parts))]
        if len(users) == 1 and not any(user.endswith("__init__.py") for user in users):
            alone[name(path)] = min(users)
    assert {file: user for file, user in alone.items() if file not in SHORT_BUT_ALONE} == {}


def code_lines(text):
    """Number and content of the lines that hold code, without comments, docstrings and imports."""
    skipped = set()
    for node in ast.walk(ast.parse(text)):
        docstring = (
            isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and type(node.value.value) is str
        )
        if docstring or isinstance(node, ast.Import | ast.ImportFrom):
            skipped.update(range(node.lineno, node.end_lineno + 1))
    lines = [(i, re.sub(r"\s+# .*", "", line).strip()) for i, line in enumerate(text.splitlines(), 1)]
    return [(i, line) for i, line in lines if i not in skipped and line and not line.startswith("#")]


def shapes(text):
    """Number and shape of the lines in bodies of functions: each name is `n`, each number `0`, each string `s`.

    What stands outside of them is left out: fields, signatures and presets of one kind have one shape by design.
    """
    inside, rows = set(), collections.defaultdict(list)
    for function in functions(ast.parse(text)):
        inside.update(range(function.body[0].lineno, function.end_lineno + 1))
    short = {tokenize.NAME: "n", tokenize.NUMBER: "0", tokenize.STRING: "s"}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (*short, tokenize.OP) and token.start[0] in inside:
            rows[token.start[0]].append(
                token.string if keyword.iskeyword(token.string) else short.get(token.type, token.string)
            )
    code = dict(code_lines(text))
    return [(i, " ".join(row)) for i, row in sorted(rows.items()) if i in code and set(row) & {"n", "0", "s"}]


def repetitions(texts, lines_of_text=code_lines):
    """`{"file:line": files and lines}` of runs of equal lines, the longest form of each run."""
    places = collections.defaultdict(list)
    for file, text in texts.items():
        lines = lines_of_text(text)
        for i in range(len(lines) - REPETITION + 1):
            window = lines[i : i + REPETITION]
            places[tuple(line for _, line in window)].append((file, i, window[0][0]))
    found, starts = {}, set()
    for again in places.values():
        if len(again) > 1:
            starts.add(tuple((file, i) for file, i, _ in again))
            if tuple((file, i - 1) for file, i, _ in again) not in starts:
                found[f"{again[0][0]}:{again[0][2]}"] = [f"{file}:{line}" for file, _, line in again[1:]]
    return found


def test_repetitions_are_found():
    six = "".join(f"    x{i} = {i}\n" for i in range(REPETITION))
    texts = {
        "a": f'"""Text."""\n\ndef f():\n{six}',
        "b": "def g():\n    # other\n" + six.replace("\n", "  # note\n") * 2,
    }
    assert repetitions(texts) == {"a:4": ["b:3", "b:9"]}
    assert repetitions({"a": texts["a"], "b": texts["a"].replace("x3", "y")}) == {}


def test_repetitions_with_other_names_are_found():
    body = "".join(f"    x{i} = f({i}, y{i})\n" for i in range(REPETITION))
    texts = {"a": "def f():\n" + body, "b": "def g():\n" + body.replace("f(", "other(").replace("y", "z")}
    assert repetitions(texts) == {}
    assert repetitions(texts, shapes) == {"a:2": ["b:2"]}


def assert_allowed(found, allowed):
    """Every repetition is within files that may repeat one another, and every exception is needed."""
    files = {place: {one.split(":")[0] for one in (place, *others)} for place, others in found.items()}
    assert {place: found[place] for place, names in files.items() if not any(names <= one for one in allowed)} == {}
    assert [one for one in allowed if not any(names <= one for names in files.values())] == []


def test_no_run_of_lines_stands_twice():
    texts = {name(path): text for path, text in TEXTS.items()}
    texts |= {f"experiments/{path.name}": path.read_text() for path in sorted((ROOT / "experiments").glob("*.py"))}
    assert_allowed(repetitions(texts), TWICE)
    assert_allowed(repetitions(texts, shapes), ALIKE)
