"""Parts of a page. All of them escape the text that they are given; their results are `Html`."""

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any, NewType

Html = NewType("Html", str)
"""Text that is HTML already."""

_STYLE = """
:root { color-scheme: light dark; --text: #1c1f24; --back: #ffffff; --soft: #5a6270; --line: #d7dbe2; --panel: #f5f6f8;
  --warn: #8a4b00; --warnback: #fff4e0; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e8ec; --back: #14171c; --soft: #a3abb8; --line: #363c47;
  --panel: #1d2129; --warn: #ffc77a; --warnback: #33270f; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 72rem; background: var(--back); color: var(--text);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.4rem 0 .6rem; padding-top: .6rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.02rem; margin: 1.3rem 0 .4rem; }
p { margin: .4rem 0; overflow-wrap: anywhere; } .soft, figcaption { color: var(--soft); font-size: .9rem; }
.scroll { overflow-x: auto; margin: .6rem 0; }
table { border-collapse: collapse; font-size: .93rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .75rem .3rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
thead th { border-bottom: 2px solid var(--soft); vertical-align: bottom; }
td.number, th.number { text-align: right; white-space: nowrap; }
tr.baseline { color: var(--soft); font-style: italic; }
table.card th { font-weight: 600; white-space: nowrap; } table.card td { overflow-wrap: anywhere; }
figure { margin: 1rem 0 1.6rem; } figure img, figure video { display: block; max-width: 100%; height: auto;
  background: #ffffff; border: 1px solid var(--line); border-radius: 4px; }
figcaption { margin-top: .35rem; overflow-wrap: anywhere; }
pre { background: var(--panel); border: 1px solid var(--line); border-radius: 4px; padding: .7rem .9rem;
  overflow-x: auto; font-size: .85rem; line-height: 1.45; }
code { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
ul { padding-left: 1.2rem; margin: .4rem 0; } li { margin: .2rem 0; overflow-wrap: anywhere; }
li.warning { color: var(--warn); background: var(--warnback); padding: .2rem .5rem; border-radius: 4px; }
details { margin: .7rem 0; } summary { cursor: pointer; font-weight: 600; }
@media print { details:not([open]) { display: none; } body { max-width: none; } }
"""

_POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"
"""No browser loads anything for the page, or runs a script in it, even if one were there."""


def text(value: Any) -> Html:
    """A value as text, escaped; what is `Html` already must not be given. Characters that cannot be shown are named."""
    plain = "".join(one if one.isprintable() or one in "\n\t" else repr(one)[1:-1] for one in str(value))
    return Html(html.escape(plain, quote=True))


def joined(parts: Sequence[Html], between: str = "\n") -> Html:
    """Parts one after another."""
    return Html(between.join(parts))


def document(title: str, body: Sequence[Html]) -> Html:
    """A whole page."""
    return Html(
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{html.escape(_POLICY)}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<meta name="referrer" '
        f'content="no-referrer">\n<title>{text(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n'
        f"{joined(body)}\n</body>\n</html>\n"
    )


def heading(level: int, words: str) -> Html:
    """A heading of a level from 1 to 3."""
    return Html(f"<h{level}>{text(words)}</h{level}>")


def paragraph(words: str, *, soft: bool = False) -> Html:
    """A paragraph of plain text."""
    kind = ' class="soft"' if soft else ""
    return Html(f"<p{kind}>{text(words)}</p>")


def bullets(items: Sequence[str], *, warnings: Sequence[str] = ()) -> Html:
    """A list; warnings stand first and are marked."""
    lines = [
        *(f'<li class="warning">{text(one)}</li>' for one in warnings),
        *(f"<li>{text(one)}</li>" for one in items),
    ]
    return Html("<ul>\n" + "\n".join(lines) + "\n</ul>")


def code(words: str) -> Html:
    """Lines of code as they stand."""
    return Html(f"<pre><code>{text(words)}</code></pre>")


def folded(title: str, parts: Sequence[Html], *, shown: bool = False) -> Html:
    """Parts that the reader opens."""
    return Html(f"<details{' open' if shown else ''}>\n<summary>{text(title)}</summary>\n{joined(parts)}\n</details>")


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str = "", baselines: Sequence[Sequence[str]] = ()
) -> Html:
    """A table; all columns but the first hold numbers, to the right. Rows of baselines stand last and are pale."""

    def row(cells: Sequence[str], tag: str, kind: str = "") -> str:
        right = ("", *[' class="number"'] * (len(cells) - 1))
        parts = [f"<{tag}{side}>{text(one)}</{tag}>" for side, one in zip(right, cells, strict=True)]
        return f"<tr{kind}>{''.join(parts)}</tr>"

    lines = [row(one, "td") for one in rows] + [row(one, "td", ' class="baseline"') for one in baselines]
    above = f"{paragraph(caption, soft=True)}\n" if caption else ""
    body = "\n".join(lines)
    return Html(
        f'{above}<div class="scroll"><table><thead>{row(head, "th")}</thead>\n<tbody>\n{body}\n</tbody></table></div>'
    )


def card(entries: Mapping[str, Any]) -> Html:
    """Names and values, one a line; values may be numbers, text, lists and objects of them."""
    lines = [f"<tr><th>{text(label(name))}</th><td>{text(plain(value))}</td></tr>" for name, value in entries.items()]
    return Html('<div class="scroll"><table class="card"><tbody>\n' + "\n".join(lines) + "\n</tbody></table></div>")


def label(name: str) -> str:
    """The name of an entry or a metric in words."""
    return name.replace("_", " ")


def plain(value: Any) -> str:
    """A JSON value in words."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number(value)
    if isinstance(value, Mapping):
        return "; ".join(f"{label(str(name))} {plain(one)}" for name, one in value.items()) or "none"
    if isinstance(value, list | tuple):
        nested = any(isinstance(one, list | tuple) for one in value)
        return (" | " if nested else ", ").join(map(plain, value)) or "none"
    return str(value)


def number(value: int | float | None) -> str:
    """Four digits; nothing for None."""
    if value is None:
        return ""
    if not math.isfinite(value):
        return str(value)
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e15 else f"{value:.4g}"


def size(count: int | float) -> str:
    """A number of bytes in words."""
    units = ("bytes", "KiB", "MiB", "GiB", "TiB")
    power = min(int(math.log(count, 1024)), len(units) - 1) if count >= 1 else 0
    return f"{count / 1024**power:.4g} {units[power]}"
