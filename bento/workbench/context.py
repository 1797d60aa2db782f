"""The parts of a running workbench, which views find by their request."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.requests import Request

from bento.client import AsyncClient
from bento.workbench.database import WorkbenchDatabase
from bento.workbench.mapping.maps import Maps
from bento.workbench.settings import WorkbenchSettings
from bento.workbench.versions import LoadedVersions

Kept = TypeVar("Kept")


@dataclass(frozen=True)
class Workbench:
    settings: WorkbenchSettings
    service: AsyncClient
    database: WorkbenchDatabase
    versions: LoadedVersions
    maps: Maps


def get_workbench(request: Request) -> Workbench:
    workbench: Workbench = request.app.state.workbench
    return workbench


def keep(request: Request, kind: type[Kept], make: Callable[[], Kept]) -> Kept:
    """The application's one instance of a view's state, made when it is first asked for."""
    kept: dict[type, Any] = request.app.state.kept
    if kind not in kept:
        kept[kind] = make()
    found: Kept = kept[kind]
    return found
