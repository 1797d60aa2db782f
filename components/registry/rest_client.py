"""Versions, aliases, tags and webhooks of the registry, as MlflowClient has them, without MLflow:
its import takes 41 MB and seconds of every start.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError

from components.registry.registry import RegistryError, describe_failure, read_tracking_uri
from components.registry.rest import MlflowServer, connect_server, read_message

TIMEOUT_S = 10.0
"""The promoter's poll is the retry: a registry that hangs must not hold up its lease."""
PAGE = 200


@dataclass(frozen=True)
class ModelVersion:
    version: str
    creation_timestamp: int
    """Milliseconds since 1970."""
    run_id: str
    tags: dict[str, str]


@dataclass(frozen=True)
class RegisteredModel:
    tags: dict[str, str]
    aliases: dict[str, str]
    """Version by alias."""


@dataclass(frozen=True)
class RestClient:
    """Methods and arguments are MlflowClient's."""

    server: MlflowServer

    def search_registered_models(self, filter_string: str) -> list[RegisteredModel]:
        found = self._list("registered-models/search", "registered_models", filter=filter_string)
        return [_to_model(one) for one in found]

    def search_model_versions(self, filter_string: str) -> list[ModelVersion]:
        found = self._list("model-versions/search", "model_versions", filter=filter_string)
        return [_to_version(one) for one in found]

    def set_model_version_tag(self, name: str, version: str, key: str, value: str) -> None:
        given = {"name": name, "version": version, "key": key, "value": value}
        self._ask("POST", "model-versions/set-tag", body=given)

    def delete_model_version_tag(self, name: str, version: str, key: str) -> None:
        given = {"name": name, "version": version, "key": key}
        self._ask("DELETE", "model-versions/delete-tag", body=given)

    def set_registered_model_tag(self, name: str, key: str, value: str) -> None:
        given = {"name": name, "key": key, "value": value}
        self._ask("POST", "registered-models/set-tag", body=given)

    def delete_registered_model_tag(self, name: str, key: str) -> None:
        self._ask("DELETE", "registered-models/delete-tag", body={"name": name, "key": key})

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        given = {"name": name, "alias": alias, "version": version}
        self._ask("POST", "registered-models/alias", body=given)

    def set_webhook(self, name: str, url: str, events: tuple[str, ...], secret: str) -> None:
        """Create or overwrite it, active. `events` are `ENTITY.ACTION` in small letters."""
        wanted = [
            dict(zip(("entity", "action"), e.upper().split("."), strict=True)) for e in events
        ]
        given = {"url": url, "events": wanted, "secret": secret, "status": "ACTIVE"}
        present = self._list("webhooks", "webhooks")
        ids = [one["webhook_id"] for one in present if one["name"] == name]
        if ids:
            self._ask("PATCH", f"webhooks/{ids[0]}", body=given)
        else:
            self._ask("POST", "webhooks", body={"name": name, **given})

    def _list(self, call: str, key: str, **query: Any) -> Iterator[dict[str, Any]]:
        token = ""
        while True:
            answer = self._ask("GET", call, query | {"max_results": PAGE, "page_token": token})
            yield from answer.get(key, [])
            token = answer.get("next_page_token", "")
            if not token:
                return

    def _ask(
        self, method: str, call: str, query: Any = (), body: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        try:
            return self.server.ask(method, call, query, body)
        except HTTPError as error:
            reason = f"{call} answered {error.code}: {read_message(error)}"
        except (OSError, HTTPException, ValueError) as error:
            reason = str(error)
        raise RegistryError(describe_failure(self.server.uri, reason))


def rest_client() -> AbstractContextManager[RestClient]:
    """Of MLFLOW_TRACKING_URI, as `registry_client`; every call raises RegistryError."""
    return nullcontext(RestClient(connect_server(read_tracking_uri(), TIMEOUT_S)))


def _to_model(found: dict[str, Any]) -> RegisteredModel:
    aliases = {one["alias"]: str(one["version"]) for one in found.get("aliases", [])}
    return RegisteredModel(_to_tags(found), aliases)


def _to_version(found: dict[str, Any]) -> ModelVersion:
    return ModelVersion(
        str(found["version"]), int(found["creation_timestamp"]), found.get("run_id", ""),
        _to_tags(found),
    )  # fmt: skip


def _to_tags(found: dict[str, Any]) -> dict[str, str]:
    return {one["key"]: one.get("value", "") for one in found.get("tags", [])}
