"""The parts of a running workbench, which views find by their request."""

from dataclasses import dataclass

from starlette.requests import Request

from bento.client import AsyncClient
from bento.workbench.database import WorkbenchDatabase
from bento.workbench.mapping.maps import Maps
from bento.workbench.settings import WorkbenchSettings
from bento.workbench.versions import LoadedVersions


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
