"""Blocks of the recommendation log: JSON arrays of recommendations as arrays."""

import json

from components.events.recommendation import Recommendation

N_FIELDS = len(Recommendation._fields)
SESSION = Recommendation._fields.index("session_id")


def read_block(block: bytes | str) -> list[Recommendation]:
    """Fields that a newer release has added at the end are left out."""
    return [Recommendation(*one[:N_FIELDS]) for one in json.loads(block)]


def remove_session(block: bytes | str, session_id: str) -> tuple[bytes, int, int]:
    """The block without the session's records, the number kept, and the number removed."""
    records = json.loads(block)
    kept = [one for one in records if one[SESSION] != session_id]
    text = json.dumps(kept, separators=(",", ":")).encode()
    return text, len(kept), len(records) - len(kept)


def find_text(session_id: str) -> str:
    """Occurs in every block that holds the session; empty where JSON may write it in two ways."""
    is_plain = session_id.isascii() and session_id.isprintable() and not set(session_id) & {*'"\\/'}
    return f'"{session_id}"' if is_plain else ""
