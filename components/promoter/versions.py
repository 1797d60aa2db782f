"""The registry as the promoter sees it, and what the promoter writes into it."""

import os
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from components.promoter.decide import Candidate, GiveBack, Tag
from components.promoter.fetch import (
    RegistryAway,
    Source,
    authorization_of_environment,
    bundle_problem,
)
from components.registry import registry
from components.registry.promotion import give_back
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


def read_versions() -> tuple[str, dict[str, Candidate]]:
    """The champion's version (or nothing), and all versions. Raises RegistryError."""
    versions = list_versions()
    champion = next((one.version for one in versions if CHAMPION in one.aliases), "")
    return champion, {one.version: _candidate(one) for one in versions}


def with_problem(
    candidates: Mapping[str, Candidate], version: str, whole: set[str]
) -> dict[str, Candidate]:
    """The candidates, with the problem of that version's bundle if it has one.

    `whole` remembers the versions whose bundle was found whole. Raises RegistryError.
    """
    candidates = dict(candidates)
    if version not in candidates or version in whole:
        return candidates
    source = Source(
        os.environ["MLFLOW_TRACKING_URI"], version, registry.MODEL, authorization_of_environment()
    )
    try:
        with tempfile.TemporaryDirectory(prefix="fbt-promoter-") as scratch:
            problem = bundle_problem(source, Path(scratch))
    except RegistryAway as error:
        raise RegistryError(str(error)) from error
    if not problem:
        whole.add(version)
    candidates[version] = replace(candidates[version], problem=problem)
    return candidates


def write_tag(tag: Tag) -> None:
    """Set or delete it. Raises RegistryError."""
    with registry_client() as client:
        if tag.value is None:
            client.delete_model_version_tag(registry.MODEL, tag.version, tag.key)
        else:
            client.set_model_version_tag(registry.MODEL, tag.version, tag.key, tag.value)


def move_back(move: GiveBack) -> None:
    """Move the alias, unless a person moved it in the meantime. Raises RegistryError."""
    give_back(move.given_up, move.to, BY, move.why)


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


def _candidate(version: Version) -> Candidate:
    tags = version.tags
    return Candidate(
        verdict=version.verdict,
        forced_by=tags.get(FORCED_TAG, ""),
        failed=tags.get(FAILED_TAG, ""),
        rollout=tags.get(ROLLOUT_TAG, "registered"),
        created_at=version.created_at,
        checks_failed=tags.get(CHECKS_TAG, ""),
    )
