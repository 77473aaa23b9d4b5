"""Names that saved models use and that the code has no longer: the one place where old run folders are translated."""

CLASSES: dict[str, str] = {
    "sciml.nde.SumPenalty": "sciml.nde.SumRegulariser",
    "sciml.nde.ScaledPenalty": "sciml.nde.ScaledRegulariser",
    "sciml.prose.all_rows": "sciml.prose.all_embeddings",
    "sciml.prose.data_rows": "sciml.prose.data_embeddings",
    "sciml.prose.symbol_rows": "sciml.prose.symbol_embeddings",
}
"""Old public name of a class or function -> the present one."""

FIELDS: dict[str, dict[str, str | None]] = {
    "sciml.nde.Solve": {"penalty": "regulariser"},
    "sciml.nde.ScaledRegulariser": {"penalty": "regulariser"},
}
"""Present name of a class -> its old fields -> their present names, None for a field that is gone."""
