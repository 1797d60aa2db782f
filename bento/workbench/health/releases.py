"""Versions, who is champion since when, and moves of the alias by the workbench."""

from typing import NamedTuple

from bento.workbench.errors import BadInput, Conflict
from components.registry.promotion import (
    Move,
    PromotionError,
    find_previous,
    history,
    promote,
    rollback,
)
from components.registry.registry import CHAMPION, ROLLOUT_TAG, Version, list_versions


class Releases(NamedTuple):
    versions: list[Version]
    """Newest first."""
    moves: list[Move]
    """Newest first."""
    previous: str
    """The champion that a roll back returns to; may be empty."""

    @property
    def champion(self) -> str:
        return next((one.version for one in self.versions if CHAMPION in one.aliases), "")

    @property
    def rolling_out(self) -> list[Version]:
        return [one for one in self.versions if one.tags.get(ROLLOUT_TAG) == "rolling out"]

    def find_stable(self, canary: str) -> str:
        """The version that is live while another rolls out; may be empty."""
        live = [one.version for one in self.versions if one.tags.get(ROLLOUT_TAG) == "live"]
        return next((one for one in live if one != canary), "")

    def find(self, version: str) -> Version | None:
        return next((one for one in self.versions if one.version == version), None)

    def find_last_move(self, version: str) -> Move | None:
        """By which the version became champion last."""
        return next((one for one in self.moves if one.to == version), None)


def read_releases() -> Releases:
    """Raises RegistryError."""
    moves = history()
    return Releases(list_versions(), moves, find_previous(moves))


class Release(NamedTuple):
    """What a person has seen and confirmed."""

    version: str
    typed: str
    champion: str
    """As the page showed it."""
    force: bool = False


def release(asked: Release, by: str) -> Move:
    """Promote. Raises BadInput, Conflict or RegistryError."""
    check_typed(asked)
    check_champion(read_releases(), asked.champion)
    try:
        return promote(asked.version, by, asked.force)
    except PromotionError as error:
        raise BadInput(str(error)) from None


def go_back(asked: Release, by: str) -> Move:
    """Roll back to the version that the page named. Raises BadInput, Conflict or RegistryError."""
    check_typed(asked)
    present = read_releases()
    check_champion(present, asked.champion)
    if present.previous != asked.version:
        raise Conflict(
            f"a roll back leads to version {present.previous or '(none)'} now, not to "
            f"{asked.version}; nothing was changed"
        )
    try:
        return rollback(by)
    except PromotionError as error:
        raise BadInput(str(error)) from None


def check_typed(asked: Release) -> None:
    if asked.typed.strip() != asked.version:
        raise BadInput(
            f"confirmation: found {asked.typed.strip()[:40]!r}, expected {asked.version!r}, the "
            "number of the version; nothing was changed"
        )


def check_champion(present: Releases, seen: str) -> None:
    """MLflow cannot compare and set: a move in the milliseconds between is lost, but recorded."""
    if present.champion == seen:
        return
    last = present.moves[0] if present.moves else None
    by = f" by {last.by}" if last and last.to == present.champion else ""
    raise Conflict(
        f"version {present.champion or '(none)'} was made champion{by} since this page was loaded, "
        f"when it was {seen or '(none)'}; nothing was changed"
    )
