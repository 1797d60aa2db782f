"""Moves of the alias `champion`, and their history, which MLflow does not keep.

Each move is a tag of the registered model. A move in the MLflow UI leaves no name.
"""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from components.registry.registry import (
    CHAMPION,
    FAILED_TAG,
    FORCED_TAG,
    MODEL,
    Connect,
    RegistryError,
    Version,
    VersionClient,
    find_model,
    get_version,
    read_aliases,
    registry_client,
)

TAG_PREFIX = "fbt.promotion."
REVERTED = ("refused", "rollout failed", "aborted by hand")
"""Moves of the promoter."""
OUTSIDE = "unknown (alias set outside of fbt, e.g. in the MLflow UI)"


@dataclass(frozen=True)
class Move:
    at: str
    """ISO 8601, UTC."""
    to: str
    """Empty when the alias was deleted."""
    came_from: str
    by: str
    why: str
    """`promoted`, `rolled back`, `promoted by force`, `found`, or one of REVERTED."""


class PromotionError(ValueError):
    """The message says why."""


def promote(version: str, by: str, force: bool = False) -> Move:
    """Make `version` (a number or an alias) champion.

    Raises PromotionError for a version that failed its gate or a rollout, unless `force`, which the
    version's tags then record.
    """
    found = get_version(version)
    objection = find_objection(found)
    if objection and not force:
        raise PromotionError(
            f"promote: version {found.version} {objection}; read its report, and use --force to "
            "promote it all the same"
        )
    return _move_champion(found, by, "promoted by force" if objection else "promoted")


def revert_champion(
    rejected: str, to: str, by: str, why: str, connect: Connect = registry_client
) -> Move | None:
    """None when somebody was faster.

    MLflow cannot compare and set: a promotion between the last two requests is lost.
    """
    moves = history(connect)
    move = Move(_now(), get_version(to, connect).version, rejected, by, why)
    if not moves or moves[0].to != rejected:
        return None
    with connect() as client:
        _write_record(client, move)
        if read_aliases(client).get(CHAMPION, "") != rejected:
            client.delete_registered_model_tag(MODEL, _name_record(move))
            return None
        client.set_registered_model_alias(MODEL, CHAMPION, move.to)
    return move


def rollback(by: str) -> Move:
    """Raises PromotionError without one before."""
    moves = history()
    previous = find_previous(moves)
    if not previous:
        present = moves[0].to if moves else ""
        raise PromotionError(
            f"rollback: there was no champion before version {present or '(none)'}; "
            "promote one with `fbt promote VERSION`"
        )
    return _move_champion(get_version(previous), by, "rolled back")


def find_previous(moves: list[Move]) -> str:
    """The champion that a roll back returns to, from the history; may be empty."""
    return ["", "", *_compute_lineage(moves)][-2]


def history(connect: Connect = registry_client) -> list[Move]:
    """Newest first. Records a move that was made outside of fbt."""
    with connect() as client:
        champion = read_aliases(client).get(CHAMPION, "")
        moves = _read_history(client)
        if champion != (moves[0].to if moves else ""):
            found = Move(_now(), champion, moves[0].to if moves else "", OUTSIDE, "found")
            _write_record(client, found)
            moves.insert(0, found)
    return moves


def _compute_lineage(moves: list[Move]) -> list[str]:
    """Oldest first, without those rolled back."""
    line: list[str] = []
    for move in reversed(moves):
        if move.why == "rolled back":
            line = line[:-1]
        elif move.why in REVERTED:
            # A rejected version is no champion to go back to.
            while move.to in line[:-1]:
                line.pop()
            line[-1:] = [move.to]
        elif move.to and move.to not in line[-1:]:
            line.append(move.to)
    return line


def find_objection(version: Version) -> str:
    """Why it is promoted by force alone; may be empty."""
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
        # The record first: an alias without a record would count as moved outside of fbt.
        _write_record(client, move)
        client.set_registered_model_alias(MODEL, CHAMPION, version.version)
    return move


def _read_history(client: VersionClient) -> list[Move]:
    model = find_model(client)
    tags = model.tags if model else {}
    records = sorted((k, v) for k, v in tags.items() if k.startswith(TAG_PREFIX))
    try:
        return [Move(**json.loads(record)) for _, record in reversed(records)]
    except (ValueError, TypeError) as error:
        raise RegistryError(
            f"registry: a tag {TAG_PREFIX}* of model {MODEL!r} was edited and cannot be read "
            f"({error}); delete that tag in MLflow"
        ) from None


def _write_record(client: VersionClient, move: Move) -> None:
    client.set_registered_model_tag(MODEL, _name_record(move), json.dumps(asdict(move)))


def _name_record(move: Move) -> str:
    return TAG_PREFIX + move.at.replace(":", "").replace("+0000", "Z")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
