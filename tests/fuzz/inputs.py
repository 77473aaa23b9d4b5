"""Texts, tokens, tables and command lines: what people and other programs write."""

import decimal

import numpy as np
from fuzz import corpora, mutations

_WORDS = """
    u_0 u_1 x t PLACEHOLDER sin cos exp inv neg pow2 pow3 sqrt tanh log add sub mul div pow + - N100 N9999 N-1 E-1 E0
    E99999 N E | 0 1 -1 7 3.5 1e999 1e-999 nan inf -0 ² １ _ __class__ __import__ lambda eval open <bos> <eos> <pad>
    """
WORDS = [*_WORDS.split(), "", " ", "a b", "\n", "\0", "9" * 5000, "u_0" * 2000, "é", "(", ")", "**", "\ud800"]
_PIECES = """
    u_0 u_1 sin( cos( ( ) ) + - * / ** , | 1 2.5 1e5 1e999 0x10 0b1 1_000 1j True None ... @ // % := lambda: x.y
    __import__('os').system('touch\u0020canary.executed') open('canary.executed','w') [u_0] {u_0} 'text' f'{u_0}' ~u_0
    u_0(1) sin(u_0,u_1) sin(x=1) (u_0:=1) yield await u_0<1 not\u0020u_0 u_0[0] *u_0 # \\ ; \u0000 \u202e ² é 9**9**9**9
    """
PIECES = [
    *_PIECES.split(),
    "\n",
    "\t",
    "(" * 300,
    "-" * 3000,
    "u_0**" * 500 + "2",
    "9" * 5000,
    "+u_0" * 3000,
    "#\n",
    "'''",
    "\ud800",
]


def changed_text(rng):
    """A system of equations as text, changed in some places."""
    text = rng.choice(corpora.TEXTS)
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        place, form = rng.randrange(len(text) + 1), rng.choice(("in", "in", "out", "swap", "twice", "character"))
        if form == "in":
            text = text[:place] + rng.choice((" ", "")) + rng.choice(PIECES) + rng.choice((" ", "")) + text[place:]
        elif form == "out":
            text = text[:place] + text[place + rng.randrange(1, 9) :]
        elif form == "swap":
            parts = text.split(" ")
            rng.shuffle(parts)
            text = " ".join(parts)
        elif form == "twice":
            text = text[:place] + text
        else:
            text = text[:place] + chr(rng.choice((rng.randrange(128), rng.randrange(0xD7FF)))) + text[place + 1 :]
    return text


_ALIKE = (
    ("add", "sub", "mul", "div", "pow"),
    ("sin", "cos", "exp", "inv", "neg", "pow2", "pow3", "sqrt", "tanh", "log"),
    ("u_0", "u_1", "u_2", "x", "0", "-1", "7", "PLACEHOLDER", "é", "9" * 5000),
    ("+", "-"),
    tuple(f"N{i}" for i in (100, 267, 999, 1000, 99, 0)),
    tuple(f"E{i}" for i in (-1, -2, 0, 300, -400, 99999)),
)


def changed_tokens(rng):
    """Prefix tokens, some of them others, gone or more."""
    tokens = corpora.tokens(rng.choice(corpora.TEXTS[:2] + corpora.TEXTS[4:]))
    for _ in range(rng.choice((1, 1, 2, 4))):
        place, form = rng.randrange(len(tokens) + 1), rng.choice(("in", "in", "out", "swap", "many", "other", "other"))
        if form == "in":
            tokens.insert(place, rng.choice(WORDS))
        elif form == "out":
            del tokens[place : place + rng.randrange(1, 4)]
        elif form == "swap":
            rng.shuffle(tokens)
        elif form == "many":
            tokens[place:place] = [rng.choice(WORDS)] * rng.choice((3, 3000))
        elif tokens:
            old = tokens[place % len(tokens)]
            alike = [group for group in _ALIKE if old in group]
            tokens[place % len(tokens)] = rng.choice(alike[0] if alike and rng.random() < 0.7 else WORDS)
    return tokens


_CELLS = """
    nan inf -inf 1e999 1e-999 1_0 0x10 １ ١ 1,5 1e5 +3 -0 .5 5. 1d5 True null "1" 1;2 --1 1e t u_0 u_1 u_2 time =1+1
    @SUM(A1) \\x00 1.0f 1j
    """
CELLS = [
    *_CELLS.split(),
    "",
    " ",
    "  7 ",
    "\0",
    "\ufeff",
    "9" * 400,
    "a" * 3000,
    "\u202e1",
    "\x0b",
    "\x0c",
    "\x85",
    "\u2028",
]


def changed_table(rng, path):
    """Changes a CSV file in cells, lines or bytes."""
    if rng.random() < 0.3:
        return mutations.change_file(rng, path)
    lines = path.read_text().split("\n")
    for _ in range(rng.choice((1, 1, 2))):
        form, i = (
            rng.choice(("cell", "cell", "cell", "line", "order", "gone", "header", "ends")),
            rng.randrange(len(lines)),
        )
        if form == "cell":
            cells = lines[i].split(",")
            cells[rng.randrange(len(cells))] = rng.choice(CELLS)
            lines[i] = ",".join(cells)
        elif form == "line":
            lines.insert(i, rng.choice(("", " ", "# comment", ",,", "1", "1,2,3,4", lines[0], lines[-1], '"a\nb",1,2')))
        elif form == "order":
            rng.shuffle(lines)
        elif form == "gone":
            del lines[i : i + rng.randrange(1, 4)]
        elif form == "header":
            lines[0] = rng.choice(
                ("u_0,t,u_1", "t,u_1,u_0", "t,u_0", "t;u_0;u_1", "t,u_0,u_0", "T,u_0,u_1", " t , u_0,u_1 ")
            )
        else:
            lines = [line + rng.choice(("\r", "\r\r", ",", " ")) for line in lines]
        lines = lines or [""]
    path.write_bytes("\n".join(lines).encode(rng.choice(("utf-8", "utf-8", "utf-8-sig", "utf-16")), "replace"))
    return f"{path.name}: {form}"


def read_table(path):
    """Times and states of a CSV file by other code; raises for anything that is not plainly such a table."""
    text = path.read_bytes().decode("utf-8-sig")
    rows = [line.split(",") for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n") if line.strip()]
    names = [cell.strip() for cell in rows[0]]
    if "t" in names:
        order = [names.index(name) for name in ("t", *(f"u_{i}" for i in range(len(names) - 1)))]
        rows = [[row[i] for i in order] for row in rows[1:] if len(row) == len(names) or 1 / 0]
    table = [[float(decimal.Decimal(cell.strip())) for cell in row] for row in rows]
    array = np.array(table, np.float64).reshape(len(table), -1 if table else len(names))
    assert np.isfinite(array).all()
    assert (np.diff(array[:, 0]) > 0).all()
    return array[:, 0], array[:, 1:]


VALUES = ["0", "-1", "1e12", "nan", "inf", "9" * 30, "9" * 5000, "", " ", "\n", "\0", "é\u202e", "--", "-", "a=b", "%s"]
VALUES += ["../x", "[red]x[/red]", "{}", "None", "True", "1.5", "0x10", "$HOME", "*", "@file", "\ud800", "2147483648"]
_RUN, _OUT = "run", ("--out", "out")
LINES = (
    ("evaluate", _RUN, "--condition", "noise=0.1", "rate={}"),
    ("evaluate", _RUN, "--condition", "{}"),
    ("evaluate", _RUN, "--condition", "sizes={} 4"),
    ("evaluate", _RUN, "--file", "{}"),
    ("evaluate", "{}"),
    ("compare", _RUN, "{}", *_OUT),
    ("compare", "{}", *_OUT),
    ("predict", _RUN, "a.csv", "{}", *_OUT),
    ("predict", "{}", "a.csv", *_OUT),
    ("train", "darcy", "--preset", "smoke", "--epochs", "{}", "--width", "-1", *_OUT),
    ("train", "darcy", "--preset", "{}", *_OUT),
    ("train", "prose_ode", "--preset", "smoke", "--{}", "1", *_OUT),
    ("train", "{}", *_OUT),
    ("train", "EXPERIMENT", "--rate", "{}", "--from", "3", *_OUT),
    ("train", "EXPERIMENT", "--sizes", "{}", "--from", "3", *_OUT),
    ("train", "EXPERIMENT", "--model", "{}", "--from", "3", *_OUT),
    ("train", "darcy", "--preset", "smoke", "--lr", "{}", "--batch", "0", *_OUT),
    ("benchmark", "darcy", "--models", "{}", "--budget", "0s", *_OUT),
    ("benchmark", "darcy", "--models", "mgno", "--target", "{}", "--budget", "-1s", *_OUT),
    ("generate", "darcy", "--n", "{}", "--batch", "0", "--out", "x.h5"),
    ("generate", "{}", "--out", "x.h5"),
    ("generate", "burgers", "--seed", "{}", "--resolution", "3", "--out", "x.h5"),
    ("info", "{}"),
    ("list", "{}"),
    ("{}",),
)


def command_line(rng, experiment):
    """Arguments of the command line that are wrong, or that take no time."""
    value = rng.choice(VALUES) if rng.random() < 0.8 else "".join(chr(rng.randrange(1, 0x2FF)) for _ in range(9))
    line = [one.replace("{}", value).replace("EXPERIMENT", str(experiment)) for one in rng.choice(LINES)]
    if rng.random() < 0.2:
        line.insert(rng.randrange(1, len(line) + 1), rng.choice(("--nothing", "--help", value)))
    if rng.random() < 0.1 and len(line) > 2:
        del line[rng.randrange(1, len(line))]
    return line
