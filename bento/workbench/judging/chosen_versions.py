"""Which versions are judged; the session keeps it, as pages of a blind test name no version."""

import time
from collections.abc import Sequence
from typing import NamedTuple

from starlette.requests import Request

from bento.workbench.context import get_workbench
from bento.workbench.errors import BadInput, NotFound, PartUnavailable
from components.registry.registry import CHALLENGER, CHAMPION, Version

MAX_VERSIONS = 6
MAX_KEPT = 10
"""Cases whose versions the session's cookie holds."""
SESSION = "judging"
KNOWN_S = 10.0
"""A judge goes through pages faster than versions are registered."""


async def choose_versions(request: Request, case_id: str) -> tuple[str, ...]:
    """Those that the person named, else the present champion and its challenger.

    Without the registry, those of the page before. Raises NotFound without any version,
    PartUnavailable.
    """
    kept = read_kept(request, case_id)
    if kept.is_named:
        return kept.versions
    try:
        chosen = await find_rivals(request, KNOWN_S)
    except PartUnavailable:
        if not kept.versions:
            raise
        return kept.versions
    if chosen != kept.versions:
        keep_versions(request, case_id, chosen, is_named=False)
    return chosen


class Kept(NamedTuple):
    versions: tuple[str, ...] = ()
    is_named: bool = False


def read_kept(request: Request, case_id: str) -> Kept:
    found = request.session.get(SESSION, {}).get(case_id)
    return Kept(tuple(found[0]), found[1]) if found else Kept()


def keep_versions(
    request: Request, case_id: str, versions: Sequence[str], is_named: bool = True
) -> None:
    kept = {**request.session.get(SESSION, {})}
    kept.pop(case_id, None)
    kept[case_id] = [list(versions), is_named]
    request.session[SESSION] = dict(list(kept.items())[-MAX_KEPT:])


async def find_rivals(request: Request, max_age_s: float = 0.0) -> tuple[str, ...]:
    """The champion and the challenger, else the newest; as they were `max_age_s` ago at most.

    Raises NotFound without any version, PartUnavailable.
    """
    state = request.app.state
    asked_at, versions = getattr(state, "judging_registered", (0.0, []))
    if not versions or time.monotonic() - asked_at > max_age_s:
        versions = await list_registered(request)
        state.judging_registered = time.monotonic(), versions
    named = [one for alias in (CHAMPION, CHALLENGER) for one in versions if alias in one.aliases]
    rivals = dict.fromkeys(one.version for one in [*named, *versions])
    return tuple(sorted(list(rivals)[:2], key=int))


async def parse_versions(request: Request, text: str) -> tuple[str, ...]:
    """Numbers or aliases between commas. Raises BadInput and NotFound."""
    names = list(dict.fromkeys(filter(None, map(str.strip, text.split(",")))))
    if not 1 <= len(names) <= MAX_VERSIONS:
        raise BadInput(f"versions: found {len(names)}, expected 1 to {MAX_VERSIONS} between commas")
    versions = await list_registered(request)
    return tuple(dict.fromkeys(_find(name, versions) for name in names))


async def list_registered(request: Request) -> list[Version]:
    """Newest first. Raises NotFound without any, PartUnavailable."""
    versions = await get_workbench(request).versions.list()
    if not versions:
        raise NotFound("no version is registered yet; train one with `fbt run`, then judge it")
    return versions


def _find(name: str, versions: Sequence[Version]) -> str:
    for one in versions:
        if name == one.version or name in one.aliases:
            return one.version
    known = ", ".join(one.version for one in versions)
    raise NotFound(f"version {name[:40]!r} is not registered; there are: {known}")
