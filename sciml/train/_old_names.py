"""Names that saved models use and that the code has no longer: the one place where old run folders are translated."""

CLASSES: dict[str, str] = {}
"""Old public name of a class or function -> the present one."""

FIELDS: dict[str, dict[str, str | None]] = {}
"""Present name of a class -> its old fields -> their present names, None for a field that is gone."""
