"""Everything that the view Health shows, asked for at once."""

import asyncio
from typing import NamedTuple

import httpx

from bento.store.rule_rows import Revision
from bento.store.store import Store
from bento.workbench.access.provider import load_authorities
from bento.workbench.context import Workbench
from bento.workbench.health.canary import CanaryState, read_canary
from bento.workbench.health.checks import ChecksReader, RunChecks
from bento.workbench.health.experiments import ExperimentState, read_experiments
from bento.workbench.health.online import OnlineState, chart_measures
from bento.workbench.health.releases import Releases, read_releases
from bento.workbench.health.services import ServiceState, ask_services
from bento.workbench.health.watched import Watched
from bento.workbench.parts import Missing
from components.registry.online import VersionMeasures, read_version_measures

WAIT_S = 1.4
"""For each part; the page has two seconds."""


class HealthState(NamedTuple):
    services: list[ServiceState]
    revision: Revision | Missing
    """Of our database."""
    releases: Releases | Missing
    canary: CanaryState | Missing | None
    """None while no version is rolling out."""
    online: OnlineState | Missing
    experiments: list[ExperimentState] | Missing
    checks: list[RunChecks] | Missing


class Health:
    """The parts that are kept from page to page."""

    def __init__(self, workbench: Workbench) -> None:
        settings, database = workbench.settings, workbench.database
        self._settings = settings
        self.moving = asyncio.Lock()
        self.releases = Watched("registry", read_releases, keep_s=2)
        self._measures = Watched("registry", read_version_measures, keep_s=60)
        self._checks = Watched("registry", ChecksReader().read, keep_s=60)
        self._revision = Watched("database", lambda: database.run(Store.revision), keep_s=0)
        folder, online = settings.workbench_experiments, settings.workbench_online
        assert folder is not None  # build_workbench places both
        assert online is not None
        self._experiments = Watched("events", lambda: read_experiments(folder, online), keep_s=300)

    async def read(self) -> HealthState:
        """Within two seconds, whatever the neighbours do."""
        settings = self._settings
        urls = list(dict.fromkeys([settings.service_url, *settings.workbench_services]))
        async with open_client() as client:
            services, revision, releases, measures, experiments, checks = await asyncio.gather(
                ask_services(client, urls),
                self._revision.get(WAIT_S),
                self.releases.get(WAIT_S),
                self._measures.get(WAIT_S),
                self._experiments.get(WAIT_S),
                self._checks.get(WAIT_S),
            )
            canary = await self._read_canary(client, releases)
        online = chart(measures, releases)
        return HealthState(services, revision, releases, canary, online, experiments, checks)

    async def _read_canary(
        self, client: httpx.AsyncClient, releases: Releases | Missing
    ) -> CanaryState | Missing | None:
        url = self._settings.prometheus_url
        if url is None or isinstance(releases, Missing) or not releases.rolling_out:
            return None
        canary = releases.rolling_out[0].version
        namespace = self._settings.metrics_namespace
        return await read_canary(client, url, canary, releases.find_stable(canary), namespace)


def open_client() -> httpx.AsyncClient:
    return httpx.AsyncClient(verify=load_authorities(), timeout=WAIT_S)


def chart(
    measures: list[VersionMeasures] | Missing, releases: Releases | Missing
) -> OnlineState | Missing:
    if isinstance(measures, Missing):
        return measures
    versions = [] if isinstance(releases, Missing) else releases.versions
    return chart_measures(measures, versions)
