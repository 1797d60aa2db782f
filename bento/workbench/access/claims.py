"""From a person's claims at the provider to name and role."""

from collections.abc import Mapping
from typing import Any

from bento.workbench.access.person import Role
from bento.workbench.settings import WorkbenchSettings

MAX_NAME_LENGTH = 128
"""As in the service's audit of rules."""


def find_role(claims: Mapping[str, Any], settings: WorkbenchSettings) -> Role | None:
    """The highest."""
    given = set(find_values(claims, settings.oidc_role_claim))
    values = {
        Role.viewer: settings.oidc_viewers,
        Role.editor: settings.oidc_editors,
        Role.releaser: settings.oidc_releasers,
    }
    return max((role for role, names in values.items() if given & set(names)), default=None)


def find_values(claims: Mapping[str, Any], name: str) -> list[str]:
    """Of a claim whose own name may have dots, as https://shop.example/roles, or of one inside of
    objects."""
    found: Any = claims
    for part in [name] if name in claims else name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    if isinstance(found, str):
        return [found]
    return [one for one in found if isinstance(one, str)] if isinstance(found, list) else []


def find_person_name(claims: Mapping[str, Any], settings: WorkbenchSettings) -> str:
    for claim in (settings.oidc_name_claim, "email", "sub"):
        for value in find_values(claims, claim):
            name = "".join(one for one in value if one.isprintable()).strip()
            if name:
                return name[:MAX_NAME_LENGTH]
    return "unnamed"
