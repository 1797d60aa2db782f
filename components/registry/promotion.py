"""Moving the alias `champion`, and remembering who moved it: MLflow keeps no history of aliases.

The history is kept in tags of the registered model, one a move, so that it lives where the alias
lives. A move made in the MLflow UI leaves no name; it is recorded as found.
"""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from components.registry.registry import (
    CHAMPION,
    FAILED_TAG,
    FORCED_TAG,
    MODEL,
    RegistryError,
    Version,
    get_version,
    read_aliases,
    registry_client,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

TAG_PREFIX = "fbt.promotion."
REVERTED = ("refused", "rollout failed")
"""How a champion is taken back without a person: the line then ends where it went back to."""
OUTSIDE = "unknown (alias set outside of fbt, e.g. in the MLflow UI)"


@dataclass(frozen=True)
class Move:
    """One change of the champion."""

    at: str
    """ISO 8601, UTC."""
    to: str
    """The version that became champion; empty when the alias was deleted."""
    came_from: str
    by: str
    why: str
    """`promoted`, `rolled back`, `promoted by force`, `found`, `refused` or `rollout failed`."""


class PromotionError(ValueError):
    """The version may not, or cannot, become champion; the message says why."""


def promote(version: str, by: str, force: bool = False) -> Move:
    """Make `version` (a number or an alias) the champion.

    Raises PromotionError for a version that did not pass its gate or whose rollout failed before,
    unless `force`; the force is then written into the version's tags too.
    """
    found = get_version(version)
    doubts = _find_objection(found)
    if doubts and not force:
        raise PromotionError(
            f"promote: version {found.version} {doubts}; read its report, and use --force to "
            "promote it all the same"
        )
    return _move_champion(found, by, "promoted by force" if doubts else "promoted")


def revert_champion(rejected: str, to: str, by: str, why: str) -> Move | None:
    """Make `to` champion again if `rejected` still is; None when somebody was faster.

    For versions that people chose and the cluster did not take, see `components.deployment`.
    MLflow cannot compare and set, so a promotion between the look and the move, some
    milliseconds, is lost; its record is not.
    """
    with registry_client() as client:
        if read_aliases(client).get(CHAMPION, "") != rejected:
            return None
    return _move_champion(get_version(to), by, why)


def rollback(by: str) -> Move:
    """Make the champion before the present one champion again.

    Raises PromotionError when there was none.
    """
    *before, present = ["", *_compute_lineage(history())]
    if len(before) < 2:
        raise PromotionError(
            f"rollback: there was no champion before version {present or '(none)'}; "
            "promote one with `fbt promote VERSION`"
        )
    return _move_champion(get_version(before[-1]), by, "rolled back")


def history() -> list[Move]:
    """All moves of the champion, newest first, those made outside of fbt included."""
    with registry_client() as client:
        champion = read_aliases(client).get(CHAMPION, "")
        moves = _read_history(client)
        if champion != (moves[0].to if moves else ""):
            found = Move(_now(), champion, moves[0].to if moves else "", OUTSIDE, "found")
            _write_record(client, found)
            moves.insert(0, found)
    return moves


def _compute_lineage(moves: list[Move]) -> list[str]:
    """The champions that led to the present one, oldest first; what was rolled back is no more."""
    line: list[str] = []
    for move in reversed(moves):
        if move.why == "rolled back":
            line = line[:-1]
        elif move.why in REVERTED:
            # What was given up is no champion to go back to, seen before or not.
            while move.to in line[:-1]:
                line.pop()
            line[-1:] = [move.to]
        elif move.to and move.to not in line[-1:]:
            line.append(move.to)
    return line


def _find_objection(version: Version) -> str:
    if reason := version.tags.get(FAILED_TAG):
        return f"failed its last rollout ({reason})"
    if version.verdict != "passed":
        return f"has the gate verdict {version.verdict!r}, expected 'passed'"
    return ""


def _move_champion(version: Version, by: str, why: str) -> Move:
    before = history()
    came_from = before[0].to if before else ""
    move = Move(_now(), version.version, came_from, by, why)
    with registry_client() as client:
        if why == "promoted by force":
            client.set_model_version_tag(MODEL, version.version, FORCED_TAG, by)
            if FAILED_TAG in version.tags:
                client.delete_model_version_tag(MODEL, version.version, FAILED_TAG)
        # The record first: an alias without its record would be put down to somebody else.
        _write_record(client, move)
        client.set_registered_model_alias(MODEL, CHAMPION, version.version)
    return move


def _read_history(client: "MlflowClient") -> list[Move]:
    try:
        tags = client.get_registered_model(MODEL).tags
    except Exception as error:
        if getattr(error, "error_code", "") == "RESOURCE_DOES_NOT_EXIST":
            return []
        raise
    records = sorted((k, v) for k, v in tags.items() if k.startswith(TAG_PREFIX))
    try:
        return [Move(**json.loads(record)) for _, record in reversed(records)]
    except (ValueError, TypeError) as error:
        raise RegistryError(
            f"registry: a tag {TAG_PREFIX}* of model {MODEL!r} was edited and cannot be read "
            f"({error}); delete that tag in MLflow"
        ) from None


def _write_record(client: "MlflowClient", move: Move) -> None:
    stamp = move.at.replace(":", "").replace("+0000", "Z")
    client.set_registered_model_tag(MODEL, TAG_PREFIX + stamp, json.dumps(asdict(move)))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
