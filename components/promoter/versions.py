"""The promoter's access to the registry."""

import tempfile
from pathlib import Path

from components.promoter.decide import RevertChampion, Tag, VersionInfo
from components.promoter.fetch import RegistryUnavailable, Source, find_bundle_problem
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
    read_tracking_uri,
)
from components.registry.rest import connect_server
from components.registry.rest_client import rest_client
from components.signing.keys import KeyConfigurationError, read_verify_keys

BY = "promoter"
WEBHOOK = "fbt-promoter"
ALIAS_EVENTS = ("model_version_alias.created", "model_version_alias.deleted")


def read_versions() -> tuple[str, dict[str, VersionInfo]]:
    """The champion (may be empty) and all versions. Raises RegistryError."""
    versions = list_versions(rest_client)
    champion = next((one.version for one in versions if CHAMPION in one.aliases), "")
    return champion, {one.version: _to_version_info(one) for one in versions}


def find_problem(version: str, intact: set[str]) -> str:
    """Check the bundle; an empty text is good. `intact` caches. Raises RegistryError."""
    if version in intact:
        return ""
    try:
        source = Source(
            connect_server(read_tracking_uri()), version, registry.MODEL, read_verify_keys()
        )
        with tempfile.TemporaryDirectory(prefix="fbt-promoter-") as scratch:
            problem = find_bundle_problem(source, Path(scratch))
    except (RegistryUnavailable, KeyConfigurationError) as error:
        raise RegistryError(str(error)) from error
    if not problem:
        intact.add(version)
    return problem


def write_tag(tag: Tag) -> None:
    """Raises RegistryError."""
    with rest_client() as client:
        if tag.value is None:
            client.delete_model_version_tag(registry.MODEL, tag.version, tag.key)
        else:
            client.set_model_version_tag(registry.MODEL, tag.version, tag.key, tag.value)


def revert_alias(move: RevertChampion) -> None:
    """Does nothing when a person moved the alias in between. Raises RegistryError."""
    revert_champion(move.rejected, move.to, BY, move.why, rest_client)


def subscribe(url: str, secret: str) -> None:
    """Have MLflow send every move of an alias to `url`.

    Raises RegistryError, also for a server that may not reach private addresses.
    """
    with rest_client() as client:
        client.set_webhook(WEBHOOK, url, ALIAS_EVENTS, secret)


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
