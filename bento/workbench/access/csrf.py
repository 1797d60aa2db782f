"""Refuses changes that another site's page sends with a person's cookie."""

import hmac
import secrets

from starlette.exceptions import HTTPException
from starlette.requests import Request

HEADER, FIELD = "x-csrf-token", "csrf"


def issue_csrf_token(request: Request) -> str:
    """The session's."""
    return str(request.session.setdefault("csrf", secrets.token_urlsafe(16)))


async def check_csrf(request: Request) -> None:
    """Raises HTTPException 403. The token is a header or a field of the form."""
    given = request.headers.get(HEADER)
    if given is None:
        given = str((await request.form()).get(FIELD, ""))
    if not hmac.compare_digest(given.encode(), issue_csrf_token(request).encode()):
        raise HTTPException(
            403, "the form is out of date or from another site; load the page again"
        )
