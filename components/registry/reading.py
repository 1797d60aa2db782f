"""How the orders were read, as a version's tags, and as parameters and metrics of its run."""

from collections.abc import Iterable
from pathlib import Path

from components.results import read_json
from components.sources.legacy_encoding import name_encoding
from components.sources.reading import Reading, join_platforms

EXPORT_TAG = "fbt.export"
"""The known exports, or OWN_COLUMNS."""
OWN_COLUMNS = "own columns"
MAX_LENGTH = 500
"""Characters of a parameter; reading.json has all."""


def read_orders_reading(path: Path) -> Reading | None:
    found = read_json(path).get("orders")
    return Reading.model_validate(found) if found else None


def tag_reading(reading: Reading) -> dict[str, str]:
    return {EXPORT_TAG: _join(join_platforms(reading.files)) or OWN_COLUMNS}


def list_parameters(reading: Reading) -> dict[str, str]:
    encodings = {name_encoding(file.encoding) for file in reading.files if file.encoding}
    columns = [one for file in reading.files for one in file.columns.items()]
    return {
        "reading.encoding": _join(sorted(encodings)),
        "reading.timezone": reading.timezone,
        "reading.columns": _join_by_column((ours, one.theirs) for ours, one in columns),
        "reading.formats": _join_by_column((o, (c.format,)) for o, c in columns if c.format),
    }


def count_unreadable(reading: Reading) -> dict[str, float]:
    """Values of each column that became null."""
    return {f"reading.unreadable_{name}": one.n_values for name, one in reading.unreadable.items()}


def _join_by_column(pairs: Iterable[tuple[str, Iterable[str]]]) -> str:
    """`name=value or value`, without repetitions."""
    values: dict[str, dict[str, None]] = {}
    for name, several in pairs:
        values.setdefault(name, {}).update(dict.fromkeys(several))
    return _join(f"{name}={' or '.join(found)}" for name, found in values.items())


def _join(parts: Iterable[str]) -> str:
    text = ", ".join(parts)
    return text if len(text) <= MAX_LENGTH else f"{text[: MAX_LENGTH - 1]}…"
