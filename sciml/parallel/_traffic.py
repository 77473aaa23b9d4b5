"""What the devices send one another in a compiled program, read from its text."""

import dataclasses
import math
import re
from collections.abc import Sequence

_SENT = {
    "all-reduce": lambda size, devices: 2 * size * (devices - 1) / devices,
    "all-gather": lambda size, devices: size * (devices - 1) / devices,
    "reduce-scatter": lambda size, devices: size * (devices - 1),
    "all-to-all": lambda size, devices: size * (devices - 1) / devices,
    "collective-permute": lambda size, devices: size,
    "collective-broadcast": lambda size, devices: size,
}
"""Bytes that each of `devices` devices sends, by ring algorithms, for a result of `size` bytes on each."""

_OPERATION = re.compile(rf"= (?P<result>.*?) (?P<kind>{'|'.join(_SENT)})(?P<start>-start)?\(.*")
_ARRAY = re.compile(r"\b(?P<kind>pred|bf|[sufc])(?P<bits>\d*)\[(?P<sizes>[\d,]*)\]")
_LISTED = re.compile(r"replica_groups=\{\{([\d,]*)\}")
_COUNTED = re.compile(r"replica_groups=\[\d+,(\d+)\]")


@dataclasses.dataclass(frozen=True)
class Exchange:
    """One collective operation of a compiled program.

    Attributes:
        kind: "all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute" or
            "collective-broadcast".
        size: Bytes of its result on each device.
        devices: Number of devices that exchange with one another.
        arrays: Shapes of its results.
    """

    kind: str
    size: int
    devices: int
    arrays: tuple[tuple[int, ...], ...]

    @property
    def sent(self) -> float:
        """Bytes that each device sends, by the algorithm in which each passes to its neighbour on a ring."""
        return float(_SENT[self.kind](self.size, self.devices))


def exchanges(program: str, devices: int) -> list[Exchange]:
    """The collective operations of a compiled program, in its order; those inside of loops are counted once.

    Args:
        program: Text of the program, `jitted.lower(...).compile().as_text()`.
        devices: Number of devices that run it.
    """
    found = []
    for line in program.splitlines():
        match = _OPERATION.search(line)
        if match is None:
            continue
        arrays = [
            (one["kind"], int(one["bits"] or 8), tuple(int(n) for n in one["sizes"].split(",") if n))
            for one in _ARRAY.finditer(match["result"])
        ]
        if match["start"]:  # the result holds operands and results
            arrays = arrays[len(arrays) // 2 :]
        size = sum(bits // 8 * math.prod(sizes) for _, bits, sizes in arrays)
        found.append(Exchange(match["kind"], size, _group(line, devices), tuple(sizes for *_, sizes in arrays)))
    return found


def sent(program: Sequence[Exchange]) -> float:
    """Bytes that each device sends in all of these operations."""
    return sum(one.sent for one in program)


def _group(line: str, devices: int) -> int:
    listed, counted = _LISTED.search(line), _COUNTED.search(line)
    if listed is not None:
        return len(listed[1].split(","))
    return devices if counted is None else int(counted[1])
