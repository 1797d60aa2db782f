"""The registry as the promoter sees it, and what the promoter writes into it."""

import os
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from components.promoter.decide import RevertChampion, Tag, VersionInfo
from components.promoter.fetch import (
    RegistryUnavailable,
    Source,
    authorization_from_environment,
    find_bundle_problem,
)
from components.registry import registry
from components.registry.promotion import revert_champion
from components.registry.registry import (
    CHAMPION,
    CHECKS_TAG,
    FAILED_TAG,
    FORCED_TAG,
    ROLLOUT_TAG,
    RegistryError,
    Version,
    list_versions,
    registry_client,
)

BY = "promoter"
WEBHOOK = "fbt-promoter"
ALIAS_EVENTS = ("model_version_alias.created", "model_version_alias.deleted")


def read_versions() -> tuple[str, dict[str, VersionInfo]]:
    """The champion's version (or nothing), and all versions. Raises RegistryError."""
    versions = list_versions()
    champion = next((one.version for one in versions if CHAMPION in one.aliases), "")
    return champion, {one.version: _to_version_info(one) for one in versions}


def check_bundle(
    versions: Mapping[str, VersionInfo], version: str, intact: set[str]
) -> dict[str, VersionInfo]:
    """The candidates, with the problem of that version's bundle if it has one.

    `intact` remembers the versions whose bundle was found whole. Raises RegistryError.
    """
    versions = dict(versions)
    if version not in versions or version in intact:
        return versions
    source = Source(
        os.environ["MLFLOW_TRACKING_URI"], version, registry.MODEL, authorization_from_environment()
    )
    try:
        with tempfile.TemporaryDirectory(prefix="fbt-promoter-") as scratch:
            problem = find_bundle_problem(source, Path(scratch))
    except RegistryUnavailable as error:
        raise RegistryError(str(error)) from error
    if not problem:
        intact.add(version)
    versions[version] = replace(versions[version], problem=problem)
    return versions


def write_tag(tag: Tag) -> None:
    """Set or delete it. Raises RegistryError."""
    with registry_client() as client:
        if tag.value is None:
            client.delete_model_version_tag(registry.MODEL, tag.version, tag.key)
        else:
            client.set_model_version_tag(registry.MODEL, tag.version, tag.key, tag.value)


def revert_alias(move: RevertChampion) -> None:
    """Move the alias, unless a person moved it in the meantime. Raises RegistryError."""
    revert_champion(move.rejected, move.to, BY, move.why)


def subscribe(url: str, secret: str) -> None:
    """Have MLflow tell `url` of every alias that moves, signed with `secret`.

    Raises RegistryError, also for a server that was not told to reach private addresses.
    """
    with registry_client() as client:
        events: Any = list(ALIAS_EVENTS)
        present = [one for one in client.list_webhooks() if one.name == WEBHOOK]
        if present:
            # MLflow shows no secrets: the one that is meant is written whatever it was.
            webhook = present[0].webhook_id
            client.update_webhook(webhook, url=url, events=events, secret=secret, status="ACTIVE")
        else:
            client.create_webhook(WEBHOOK, url, events, secret=secret)


def _to_version_info(version: Version) -> VersionInfo:
    tags = version.tags
    return VersionInfo(
        verdict=version.verdict,
        forced_by=tags.get(FORCED_TAG, ""),
        failed=tags.get(FAILED_TAG, ""),
        rollout=tags.get(ROLLOUT_TAG, "registered"),
        created_at=version.created_at,
        checks_failed=tags.get(CHECKS_TAG, ""),
    )
