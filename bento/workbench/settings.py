"""Settings of the workbench, from environment variables, read once when it starts."""

from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from bento.settings import PREFIX, Network, parse_networks, read_environment, split_commas
from bento.workbench.access.hosts import is_loopback

Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_commas)]


def check_origin(url: str) -> str:
    """Raises ValueError."""
    parts = urlsplit(url.rstrip("/"))
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path or parts.query:
        raise ValueError("a URL without a path, such as https://workbench.shop.example")
    return f"{parts.scheme}://{parts.netloc.lower()}"


def check_issuer(url: str) -> str:
    """Raises ValueError. Keys that come over plain HTTP could be anybody's."""
    parts = urlsplit(url)
    is_safe = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(url))
    if not is_safe or not parts.hostname:
        raise ValueError("an https:// URL, below which .well-known/openid-configuration lies")
    return url.rstrip("/")


class WorkbenchSettings(BaseSettings):
    """A field's variable is FBT_ and its name in capitals."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=PREFIX, env_ignore_empty=True
    )

    service_url: str = "http://127.0.0.1:3000"
    """Of the recommendation service."""

    database_url: SecretStr | None = None
    """Of rules, judgements and audit: the service's. Default: `fbt.db` in FBT_HOME."""

    events_url: SecretStr | None = None
    """Of the recommendation log, which orders the judges' queue by views: the service's. Without
    it, or with `off`, the queue goes by orders."""

    workbench_cache: Path | None = None
    """Folder for the bundles of versions. Default: `workbench` in FBT_HOME."""

    workbench_versions: int = Field(default=2, ge=2, le=10)
    """Versions that are kept open at once."""

    workbench_services: Names = ()
    """URLs, between commas, of more services whose state the view Health shows."""

    workbench_online: Path | None = None
    """Folder of compacted events, for verdicts of experiments. Default: `online` in FBT_HOME."""

    workbench_experiments: Path | None = None
    """Folder of experiments' JSON files. Default: `experiments` in FBT_HOME."""

    prometheus_url: str | None = None
    """Of the cluster's Prometheus, for canary and stable side by side."""

    metrics_namespace: str = ""
    """Whose pods are compared there. Default: those of all namespaces."""

    mlflow_url: str | None = None
    """MLflow's address in people's browsers. Default: MLFLOW_TRACKING_URI, if that is a URL."""

    kfp_url: str | None = None
    """Kubeflow Pipelines' address in people's browsers."""

    workbench_open: Literal["viewer", "editor", "releaser"] | None = None
    """Nobody logs in, and everybody who reaches the workbench has this role."""

    workbench_url: Annotated[str, AfterValidator(check_origin)] | None = None
    """The address in people's browsers, such as https://workbench.shop.example. Default: the
    request's."""

    workbench_hosts: Names = ()
    """More names, between commas, by which browsers may ask, beside that of FBT_WORKBENCH_URL,
    localhost and addresses."""

    workbench_session_key: SecretStr | None = None
    """Signs sessions, at least 32 characters; replicas share it. Default: random at each start."""

    workbench_session_key_file: Path | None = None
    """File with the key instead."""

    workbench_session_h: float = Field(default=8, gt=0, le=24 * 7)
    """A login ends after so many hours."""

    trusted_proxies: Annotated[tuple[Network, ...], NoDecode, BeforeValidator(parse_networks)] = ()
    """Addresses or networks, between commas, whose X-Forwarded-Proto and -Host are believed."""

    oidc_issuer: Annotated[str, AfterValidator(check_issuer)] | None = None
    """URL of the identity provider (OpenID Connect) where people log in."""

    oidc_client_id: str | None = None
    """The workbench's, as registered at the provider, with the redirect URI
    FBT_WORKBENCH_URL/login/callback."""

    oidc_client_secret: SecretStr | None = None
    """Without one, the workbench is a public client, which PKCE protects."""

    oidc_client_secret_file: Path | None = None
    """File with the secret instead."""

    oidc_scopes: str = Field(default="openid profile email", pattern=r"(^|.* )openid( .*|$)")
    """Asked of the provider; some give roles for a scope of its own."""

    oidc_name_claim: str = "preferred_username"
    """Claim with the name for audits; without it, `email`, then `sub`."""

    oidc_role_claim: str = "roles"
    """Claim with a person's roles or groups, looked up in the ID token, then at the userinfo
    endpoint; dots lead into objects, as in realm_access.roles."""

    oidc_viewers: Names = ("fbt-viewer",)
    """Values of the claim, between commas, for the role viewer: looks, and judges."""

    oidc_editors: Names = ("fbt-editor",)
    """As FBT_OIDC_VIEWERS: writes rules, too."""

    oidc_releasers: Names = ("fbt-releaser",)
    """As FBT_OIDC_VIEWERS: promotes and rolls back, too."""

    @model_validator(mode="after")
    def _check_pairs(self) -> Self:
        if self.workbench_open and self.oidc_issuer:
            raise ValueError("only one of FBT_WORKBENCH_OPEN and FBT_OIDC_ISSUER")
        for secret in ("workbench_session_key", "oidc_client_secret"):
            if getattr(self, secret) is not None and getattr(self, f"{secret}_file") is not None:
                name = PREFIX + secret.upper()
                raise ValueError(f"only one of {name} and {name}_FILE")
        return self


def read_workbench_settings() -> WorkbenchSettings:
    """Raises SettingsError, naming every wrong variable."""
    return read_environment(WorkbenchSettings)
