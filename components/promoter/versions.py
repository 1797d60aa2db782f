"""The promoter's access to the registry."""

import os
import tempfile
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
from components.signing.keys import KeyConfigurationError, read_verify_keys

BY = "promoter"
WEBHOOK = "fbt-promoter"
ALIAS_EVENTS = ("model_version_alias.created", "model_version_alias.deleted")


def read_versions() -> tuple[str, dict[str, VersionInfo]]:
    """The champion (may be empty) and all versions. Raises RegistryError."""
    versions = list_versions()
    champion = next((one.version for one in versions if CHAMPION in one.aliases), "")
    return champion, {one.version: _to_version_info(one) for one in versions}


def find_problem(version: str, intact: set[str]) -> str:
    """Check the bundle; an empty text is good. `intact` caches. Raises RegistryError."""
    if version in intact:
        return ""
    try:
        source = Source(
            os.environ["MLFLOW_TRACKING_URI"], version, registry.MODEL,
            authorization_from_environment(), read_verify_keys(),
        )  # fmt: skip
        with tempfile.TemporaryDirectory(prefix="fbt-promoter-") as scratch:
            problem = find_bundle_problem(source, Path(scratch))
    except (RegistryUnavailable, KeyConfigurationError) as error:
        raise RegistryError(str(error)) from error
    if not problem:
        intact.add(version)
    return problem


def write_tag(tag: Tag) -> None:
    """Raises RegistryError."""
    with registry_client() as client:
        if tag.value is None:
            client.delete_model_version_tag(registry.MODEL, tag.version, tag.key)
        else:
            client.set_model_version_tag(registry.MODEL, tag.version, tag.key, tag.value)


def revert_alias(move: RevertChampion) -> None:
    """Does nothing when a person moved the alias in between. Raises RegistryError."""
    revert_champion(move.rejected, move.to, BY, move.why)


def subscribe(url: str, secret: str) -> None:
    """Have MLflow send every move of an alias to `url`.

    Raises RegistryError, also for a server that may not reach private addresses.
    """
    with registry_client() as client:
        events: Any = list(ALIAS_EVENTS)
        present = [webhook for webhook in client.list_webhooks() if webhook.name == WEBHOOK]
        if present:
            # MLflow shows no secrets: the secret is written whatever it was.
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
