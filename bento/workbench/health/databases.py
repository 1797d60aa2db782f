"""Whether a service reads the database that the workbench writes."""

from typing import NamedTuple

from bento.store.rule_rows import Revision
from bento.workbench.health.services import ServiceState
from bento.workbench.parts import Missing


class Warned(NamedTuple):
    text: str
    kind: str
    """A class of workbench.css."""


def compare_database(service: ServiceState, own: Revision | Missing) -> Warned:
    """`own` is our database's revision, read at the same time."""
    found = service.database
    revision, state = found.get("revision"), found.get("state")
    if not found:
        return Warned("no database: neither rules nor catalogue changes", "warn")
    if found.get("error") or state == "stale":
        since = found.get("seconds_since_contact", 0)
        return Warned(f"no contact for {since:.0f} s; the last known rules serve on", "bad")
    if revision is None:
        return Warned("not read yet", "warn")
    if isinstance(own, Missing):
        return Warned(f"revision {revision}", "")
    if revision > own.value or found.get("epoch", own.epoch) != own.epoch:
        return Warned(
            "not the workbench's: what is changed here does not reach it; compare FBT_DATABASE_URL "
            "of both",
            "bad",
        )
    if revision < own.value:
        return Warned(f"behind: revision {revision} of {own.value}", "warn")
    # A service of an earlier release does not say which database it is.
    whose = "the workbench's, revision" if "epoch" in found else "as the workbench's at revision"
    return Warned(f"{whose} {revision}", "good")
