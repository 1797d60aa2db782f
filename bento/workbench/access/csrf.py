"""Refuses changes that another site's page sends with a person's cookie."""

import hmac

from starlette.exceptions import HTTPException
from starlette.requests import Request

from bento.workbench.access.policy import get_policy

HEADER, FIELD = "x-csrf-token", "csrf"


def issue_csrf_token(request: Request) -> str:
    """Of the login. Where nobody logs in, of the process: other sites cannot read it either, and
    tabs that open at once share it."""
    login = request.scope.get("session", {}).get("id", "")
    return get_policy(request).sign("form", login)


async def check_csrf(request: Request) -> None:
    """Raises HTTPException 403. The token is a header or a field of the form."""
    check_origin(request)
    given = request.headers.get(HEADER)
    if given is None:
        given = str((await request.form()).get(FIELD, ""))
    if not hmac.compare_digest(given.encode(), issue_csrf_token(request).encode()):
        raise HTTPException(
            403, "the form is out of date or from another site; load the page again"
        )


def check_origin(request: Request) -> None:
    """Raises HTTPException 403 where the browser says that another site's page asks."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    own = get_policy(request).find_origin(request)
    is_own = site == "same-origin" if site is not None else origin in (None, own)
    if not is_own:
        raise HTTPException(
            403,
            f"the form comes from {origin or 'another site'}, expected {own}; if people reach the "
            "workbench by that address, set FBT_WORKBENCH_URL to it",
        )
