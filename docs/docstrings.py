"""A Griffe extension: constructors of Equinox modules, shapes of arrays, formulas and code in docstrings."""

import re
import textwrap

import griffe
from latex2mathml.converter import convert

EQUATION = re.compile(r"^\.\. math::\s+(.*?)(?=\n\n|\n\S|\Z)", re.DOTALL | re.MULTILINE)
FORMULA = re.compile(r":math:`([^`]+)`")
DOCTEST = re.compile(r"^>>> .*?(?=\n\n|\Z)", re.DOTALL | re.MULTILINE)
LITERAL = re.compile(r"::\n\n((?: {4}.*\n|\n)+)")


def _mathml(latex, display):
    """MathML of a formula, in which Markdown finds nothing to change."""
    return convert(" ".join(latex.split()), display=display).replace("*", "&#42;").replace("_", "&#95;")


def markdown(text):
    """A docstring with its formulas as MathML, and its doctests and literal blocks as fenced code."""
    text = EQUATION.sub(lambda match: f"<div>{_mathml(match[1], 'block')}</div>", text)
    text = FORMULA.sub(lambda match: _mathml(match[1], "inline"), text)
    text = DOCTEST.sub(lambda match: f"```pycon\n{match[0]}\n```", text)
    return LITERAL.sub(
        lambda match: f":\n\n```python\n{textwrap.dedent(match[1]).strip()}\n```\n\n", f"{text}\n"
    ).strip()


def _name(path):
    return griffe.ExprName(path, parent=None)


def _is_module(cls, package):
    """Whether a class descends from `equinox.Module`."""
    for base in cls.bases:
        path = getattr(base, "canonical_path", str(base))
        if path == "equinox.Module":
            return True
        if path.startswith("sciml.") and _is_module(package[path.removeprefix("sciml.")], package):
            return True
    return False


def _parts(expression):
    """An expression and everything in it."""
    if isinstance(expression, griffe.Expr):
        yield expression
        for part in expression.iterate(flat=False):
            if part is not expression:  # a name is its only part
                yield from _parts(part)


def _quote_shapes(annotation):
    """Makes strings of jaxtyping's shapes again: Griffe reads "channels *space" as a product."""
    for part in _parts(annotation):
        if isinstance(part, griffe.ExprSubscript) and part.left.canonical_path.startswith("jaxtyping."):
            elements = getattr(part.slice, "elements", [])
            elements[1:] = [
                f"'{str(e).replace(' * ', ' *')}'" if isinstance(e, griffe.ExprBinOp) else e for e in elements[1:]
            ]


class Docstrings(griffe.Extension):
    """Runs once the package is loaded, before Griffe's own extension for dataclasses."""

    def on_package(self, *, pkg, **kwargs):
        """Prepares every object of the package."""
        self._prepare(pkg, pkg)

    def _prepare(self, obj, package):
        if obj.docstring:
            obj.docstring.value = markdown(obj.docstring.value)
        if obj.is_class and not obj.name.startswith("Abstract") and _is_module(obj, package):
            obj.decorators.append(griffe.Decorator(_name("dataclasses.dataclass"), lineno=None, endlineno=None))
        if obj.is_function:
            for annotation in (obj.returns, *(parameter.annotation for parameter in obj.parameters)):
                _quote_shapes(annotation)
        if obj.is_attribute:
            _quote_shapes(obj.annotation)
        for member in obj.members.values():
            if member.is_alias:
                continue
            if member.is_attribute and getattr(member.value, "canonical_path", "") == "equinox.field":
                member.value.function = _name("dataclasses.field")
            self._prepare(member, package)
