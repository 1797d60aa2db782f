"""The identity provider: authorization code flow of OpenID Connect with PKCE, by Authlib."""

import functools
import ssl
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import httpx

from bento.workbench.access.policy import AccessPolicy

TIMEOUT_S = 5
CLOCK_SKEW_S = 60
ENDPOINTS = {"authorization_endpoint", "token_endpoint", "jwks_uri"}


@functools.cache
def load_authorities() -> ssl.SSLContext:
    """Once: it takes a tenth of a second, and a login has five connections."""
    return httpx.create_ssl_context()


class ProviderUnavailable(RuntimeError):
    """It may come back."""


class LoginRefused(RuntimeError):
    """The message says why; trying again may help."""


class LoginAttempt(NamedTuple):
    """What the browser keeps, signed, between the request to the provider and its answer."""

    state: str
    nonce: str
    code_verifier: str
    redirect_uri: str
    next: str
    """Path that the person asked for."""


class Provider:
    """Made anew for each login: logins are rare, and keys and addresses may change."""

    def __init__(self, policy: AccessPolicy) -> None:
        with warnings.catch_warnings(record=True):  # Authlib would rather have httpx2
            from authlib.integrations.starlette_client import OAuth

        settings = policy.settings
        self._issuer, self._client_id = str(settings.oidc_issuer), str(settings.oidc_client_id)
        self._client: Any = OAuth().register(
            "provider",
            client_id=self._client_id,
            client_secret=policy.client_secret,
            server_metadata_url=f"{self._issuer}/.well-known/openid-configuration",
            client_kwargs={
                "scope": settings.oidc_scopes,
                "code_challenge_method": "S256",
                "timeout": TIMEOUT_S,
                "verify": load_authorities(),
            },
        )

    async def start_login(
        self, redirect_uri: str, next_path: str, as_other: bool = False
    ) -> tuple[str, LoginAttempt]:
        """The provider's URL for the browser; `as_other` has it ask who logs in, whoever is logged
        in there. Raises ProviderUnavailable or LoginRefused."""
        await self._discover()
        more = {"prompt": "login"} if as_other else {}
        made = await self._client.create_authorization_url(redirect_uri, **more)
        attempt = LoginAttempt(
            made["state"], made["nonce"], made["code_verifier"], redirect_uri, next_path
        )
        return made["url"], attempt

    async def finish_login(self, attempt: LoginAttempt, code: str) -> dict[str, Any]:
        """The person's claims. Raises ProviderUnavailable or LoginRefused."""
        from authlib.common.errors import AuthlibBaseError
        from joserfc.errors import JoseError

        metadata = await self._discover()
        try:
            token = await self._client.fetch_access_token(
                redirect_uri=attempt.redirect_uri, code=code, code_verifier=attempt.code_verifier
            )
            if "id_token" not in token:
                raise LoginRefused("the provider sent no ID token")
            claims = await self._client.parse_id_token(
                token,
                nonce=attempt.nonce,
                claims_options={
                    "iss": {"essential": True, "value": metadata["issuer"]},
                    "aud": {"essential": True, "value": self._client_id},
                },
                leeway=CLOCK_SKEW_S,
            )
            return await self._add_userinfo(metadata, token, claims)
        except httpx.HTTPError as error:
            raise ProviderUnavailable(self._describe(error)) from None
        except (AuthlibBaseError, JoseError, ValueError) as error:
            raise LoginRefused(f"the provider's answer does not count: {error}") from None

    async def find_logout_url(self, back_to: str) -> str | None:
        """None without one, or while the provider is down: the person is logged out here."""
        try:
            metadata = await self._discover()
        except (ProviderUnavailable, LoginRefused):
            return None
        if "end_session_endpoint" not in metadata:
            return None
        made = await self._client.create_logout_url(
            post_logout_redirect_uri=back_to, client_id=self._client_id
        )
        return str(made["url"])

    async def _discover(self) -> Mapping[str, Any]:
        try:
            metadata: dict[str, Any] = await self._client.load_server_metadata()
        except (httpx.HTTPError, ValueError, TypeError) as error:
            raise ProviderUnavailable(self._describe(error)) from None
        if missing := ENDPOINTS - metadata.keys():
            raise LoginRefused(f"the discovery document of {self._issuer} lacks {min(missing)}")
        found = str(metadata.get("issuer"))
        if found.rstrip("/") != self._issuer:
            raise LoginRefused(
                f"FBT_OIDC_ISSUER: found {self._issuer}, expected {found}, the name that the "
                "provider there gives itself"
            )
        offered = metadata.get("id_token_signing_alg_values_supported", ["RS256"])
        # Without the shared-secret ones and `none`: the keys are public.
        signed = [one for one in offered if one[:2] in ("RS", "PS", "ES", "Ed")]
        metadata["id_token_signing_alg_values_supported"] = signed
        return metadata

    async def _add_userinfo(
        self, metadata: Mapping[str, Any], token: Any, claims: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Some providers tell roles there alone. Another person's answer does not count."""
        if "userinfo_endpoint" not in metadata:
            return dict(claims)
        more = dict(await self._client.userinfo(token=token))
        return {**more, **claims} if more.get("sub") == claims["sub"] else dict(claims)

    def _describe(self, error: Exception) -> str:
        reason = str(error) or type(error).__name__
        return f"{self._issuer}: {reason}"
