"""Hooks of `mkdocs build`: pages of the API, files from outside docs/, and what the code of pages prints."""

import ast
import contextlib
import io
import os
import pathlib
import posixpath
import re
import subprocess
import sys
import tempfile

from mkdocs.structure.files import File, InclusionLevel

import sciml

ROOT = pathlib.Path(__file__).resolve().parent.parent
AREAS = sorted(sciml._AREAS)
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md"}
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")
BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def public_names(area):
    """What an area defines, or imports as `X as X`, without an underscore in front; in alphabetical order."""
    file = ROOT / f"sciml/{area}.py"
    names = set()
    for node in ast.parse((file if file.exists() else ROOT / f"sciml/{area}/__init__.py").read_text()).body:
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                names.add(name)
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
            case ast.ImportFrom(names=aliases):
                names |= {alias.name for alias in aliases if alias.asname == alias.name}
    return sorted((name for name in names if not name.startswith("_")), key=lambda name: (name.lower(), name))


def api_page(area):
    """The page of an area: what the module says of itself, then every public name."""
    options = "options: {members: false, show_root_heading: false, show_root_toc_entry: false}"
    head = f"# sciml.{area}\n\n::: sciml.{area}\n    {options}\n"
    return "\n".join([head, *(f"::: sciml.{area}.{name}\n" for name in public_names(area))])


def targets(markdown, uri):
    """The links of a page to files of the repository: (match, path in the repository, path in the site)."""
    source = {page: source for source, page in PAGES.items()}.get(uri, f"docs/{uri}")
    for match in LINK.finditer(markdown):
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), match[1]))
        if (ROOT / path).is_file():
            moved = f"source/{path}.md" if path.endswith(".py") else f"source/{path}"
            yield match, path, PAGES.get(path) or (path[5:] if path.startswith("docs/") else moved)


def executed(markdown, name, kinds):
    """The page with what each of its blocks of these kinds printed; they share variables and a new folder."""
    found = {}

    def python(code, line):  # so that an error names the line of the page
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile("\n" * line + code, name, "exec"), found)
        return printed.getvalue()

    def shell(code, line):
        path = f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        variables = {**os.environ, "PATH": path, "COLUMNS": "130"}
        done = subprocess.run(["bash", "-ec", code], capture_output=True, text=True, env=variables)
        if done.returncode:
            raise RuntimeError(f"{name}, line {line + 1}: {done.stderr}")
        return "".join(one + "\n" for one in done.stdout.splitlines() if one.strip())

    def with_output(block):
        if block[1] not in kinds:
            return block[0]
        text = (python if block[1] == "python" else shell)(block[2], markdown.count("\n", 0, block.start(2)))
        return f'{block[0]}\n\n```{{.text title="printed in this build"}}\n{text}```' if text else block[0]

    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        return BLOCK.sub(with_output, markdown)


def brought(config, path, uri):
    """A file from outside docs/: Python as a page, all else as it is."""
    if not path.endswith(".py"):
        return File.generated(config, uri, abs_src_path=str(ROOT / path), inclusion=InclusionLevel.NOT_IN_NAV)
    code = f"# {posixpath.basename(path)}\n\n````python\n{(ROOT / path).read_text()}````\n"
    return File.generated(config, uri, content=code, inclusion=InclusionLevel.NOT_IN_NAV)


def on_config(config):
    """Adds the API to the navigation."""
    config.nav.append({"API": [f"api/{area}.md" for area in AREAS]})


def on_files(files, config):
    """Adds the pages of the API, those from outside docs/, and the files that pages link to."""
    own = {uri: (ROOT / source).read_text() for source, uri in PAGES.items()}
    for uri, content in (own | {f"api/{area}.md": api_page(area) for area in AREAS}).items():
        files.append(File.generated(config, uri, content=content))
    for page in list(files.documentation_pages()):
        for _, path, uri in targets(page.content_string, page.src_uri):
            if uri not in files.src_uris:
                files.append(brought(config, path, uri))


def on_page_markdown(markdown, page, config, files):
    """Runs the code of tutorials and points links to where their files are in the site."""
    uri = page.file.src_uri
    kinds = [kind for kind, pages in config.extra["executed"].items() if uri in pages]
    if kinds:
        markdown = executed(markdown, uri, kinds)
    for match, _, target in reversed(list(targets(markdown, uri))):
        markdown = markdown[: match.start(1)] + posixpath.relpath(target, f"{uri}/..") + markdown[match.end(1) :]
    return markdown
