"""Decides who comes in: the machine's user, everybody, or people who log in."""

import getpass
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from itsdangerous import Signer
from pydantic import SecretStr
from starlette.requests import HTTPConnection

from bento.settings import SettingsError, variable_name
from bento.workbench.access.hosts import find_name, is_loopback
from bento.workbench.access.person import Person, Role
from bento.workbench.settings import WorkbenchSettings

MIN_KEY_LENGTH = 32


@dataclass(frozen=True)
class AccessPolicy:
    settings: WorkbenchSettings
    everybody: Person | None
    """None: people log in."""
    hosts: frozenset[str]
    key: str = field(repr=False)
    has_random_key: bool
    """Sessions end when the process ends."""
    client_secret: str | None = field(repr=False, default=None)

    def find_origin(self, request: HTTPConnection) -> str:
        """Of our pages in the person's browser, as https://workbench.shop.example."""
        return self.settings.workbench_url or str(request.base_url).rstrip("/")

    def sign(self, purpose: str, text: str) -> str:
        """The signature alone."""
        return Signer(self.key, salt=f"fbt workbench {purpose}").get_signature(text).decode()


def get_policy(request: HTTPConnection) -> AccessPolicy:
    policy: AccessPolicy = request.app.state.access
    return policy


def decide_access(settings: WorkbenchSettings, host: str) -> AccessPolicy:
    """`host` is what the server binds to. Raises SettingsError if strangers could come in."""
    given = {find_name(one) for one in (settings.workbench_url or "", *settings.workbench_hosts)}
    hosts = frozenset(given - {""})
    key = read_secret(settings, "workbench_session_key")
    if key is not None and len(key) < MIN_KEY_LENGTH:
        raise SettingsError(
            f"{variable_name('workbench_session_key')}: found {len(key)} characters, expected at "
            f"least {MIN_KEY_LENGTH} random ones"
        )
    everybody = find_everybody(settings, host, hosts)
    secret = read_secret(settings, "oidc_client_secret")
    return AccessPolicy(settings, everybody, hosts, key or secrets.token_hex(), key is None, secret)


def find_everybody(settings: WorkbenchSettings, host: str, hosts: frozenset[str]) -> Person | None:
    if settings.oidc_issuer:
        if not settings.oidc_client_id:
            raise SettingsError(
                "FBT_OIDC_CLIENT_ID: not set, expected the name under which the workbench is "
                f"registered at {settings.oidc_issuer}"
            )
        return None
    if settings.workbench_open:
        return Person("everybody", Role[settings.workbench_open])
    if outside := [one for one in (host, *sorted(hosts)) if not is_loopback(one)]:
        raise SettingsError(
            f"workbench: other machines can reach it as {outside[0] or 'all addresses'!r}, and "
            "nothing says who may come in. Set FBT_OIDC_ISSUER and FBT_OIDC_CLIENT_ID, so that "
            "people log in at your identity provider, or FBT_WORKBENCH_OPEN=viewer, editor or "
            "releaser, so that everybody who reaches it has that role; or bind to 127.0.0.1"
        )
    return Person(find_local_user(), Role.releaser)


def find_local_user() -> str:
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):  # a container's user may have no name
        return "local user"


def read_secret(settings: WorkbenchSettings, field_name: str) -> str | None:
    """From the setting or its file. Raises SettingsError."""
    secret: SecretStr | None = getattr(settings, field_name)
    if secret is not None:
        return secret.get_secret_value()
    file: Path | None = getattr(settings, f"{field_name}_file")
    if file is None:
        return None
    try:
        return file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"{variable_name(field_name)}_FILE: found {file}, which cannot be read ({error}), "
            "expected a file with the secret"
        ) from None
