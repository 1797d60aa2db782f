"""Log in and log out."""

import hashlib
import secrets
import time
from urllib.parse import urlencode

from itsdangerous import BadData, URLSafeTimedSerializer
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from bento.workbench.access.claims import find_person_name, find_role, find_values
from bento.workbench.access.identify import PERSON
from bento.workbench.access.person import Role
from bento.workbench.access.policy import AccessPolicy, get_policy
from bento.workbench.access.provider import (
    LoginAttempt,
    LoginRefused,
    Provider,
    ProviderUnavailable,
)
from bento.workbench.access.redirects import to_safe_path
from bento.workbench.pages import render
from bento.workbench.routing import Views

VIEWS = Views()
LOGIN_S = 600
"""To type a password and confirm by telephone."""
CALLBACK = "/login/callback"


@VIEWS.get("/login", role=None)
async def log_in(request: Request) -> Response:
    policy = get_policy(request)
    next_path = to_safe_path(request.query_params.get("next", ""))
    if policy.everybody is not None or request.state.person is not None:
        return RedirectResponse(next_path, 303)
    redirect_uri = policy.find_origin(request) + CALLBACK
    try:
        as_other = "other" in request.query_params
        url, attempt = await Provider(policy).start_login(redirect_uri, next_path, as_other)
    except (ProviderUnavailable, LoginRefused) as error:
        return show_failure(request, error, next_path)
    response = RedirectResponse(url, 303)
    # A cookie of its own for each attempt: several tabs may log in at once.
    response.set_cookie(
        name_cookie(attempt.state),
        serialize(policy).dumps(list(attempt)),
        max_age=LOGIN_S,
        path="/login",
        httponly=True,
        samesite="lax",
    )
    return response


@VIEWS.get(CALLBACK, role=None)
async def finish_login(request: Request) -> Response:
    policy, given = get_policy(request), request.query_params
    if policy.everybody is not None:
        return RedirectResponse("/", 303)
    attempt = read_attempt(request)
    if attempt is None:
        if request.state.person is not None:  # logged in by another tab
            return RedirectResponse("/", 303)
        return show_failure(
            request, LoginRefused("this login was started too long ago, or in another browser"), "/"
        )
    try:
        if "code" not in given:
            reason = given.get("error_description") or given.get("error") or "no reason given"
            raise LoginRefused(f"the provider refused: {reason[:300]}")
        claims = await Provider(policy).finish_login(attempt, given["code"])
    except (ProviderUnavailable, LoginRefused) as error:
        return show_failure(request, error, attempt.next)
    response = admit(request, claims, attempt.next)
    response.delete_cookie(name_cookie(attempt.state), path="/login")
    return response


@VIEWS.post("/logout", Role.viewer)
async def log_out(request: Request) -> Response:
    policy = get_policy(request)
    request.session.clear()
    if policy.everybody is not None:
        return RedirectResponse("/", 303)
    back = policy.find_origin(request) + "/logged-out"
    url = await Provider(policy).find_logout_url(back)
    request.state.person = None
    # No redirect: `form-action` would forbid a form to lead to another site.
    return render(request, "access/logged_out.html", provider_url=url)


@VIEWS.get("/logged-out", role=None)
async def show_logged_out(request: Request) -> Response:
    if request.state.person is not None:
        return RedirectResponse("/", 303)
    return render(request, "access/logged_out.html", provider_url=None)


def admit(request: Request, claims: dict[str, object], next_path: str) -> Response:
    settings = get_policy(request).settings
    name, role = find_person_name(claims, settings), find_role(claims, settings)
    request.session.clear()
    if role is None:
        return render(
            request,
            "access/no_role.html",
            403,
            name=name,
            claim=settings.oidc_role_claim,
            values=find_values(claims, settings.oidc_role_claim),
        )
    ends_at = time.time() + settings.workbench_session_h * 3600
    request.session["id"] = secrets.token_urlsafe(16)
    request.session[PERSON] = {"name": name, "role": role.name, "ends_at": ends_at}
    return RedirectResponse(next_path, 303)


def show_failure(request: Request, error: Exception, next_path: str) -> Response:
    """A provider that is down is asked again by the page itself."""
    is_down = isinstance(error, ProviderUnavailable)
    again = "/login?" + urlencode({"next": next_path})
    status = 503 if is_down else 403
    return render(
        request, "access/failed.html", status, message=str(error), is_down=is_down, again=again
    )


def read_attempt(request: Request) -> LoginAttempt | None:
    """None if the state is not that of a login which this browser started."""
    state = request.query_params.get("state", "")
    cookie = request.cookies.get(name_cookie(state), "")
    try:
        found = LoginAttempt(*serialize(get_policy(request)).loads(cookie, max_age=LOGIN_S))
    except BadData:
        return None
    return found if secrets.compare_digest(found.state.encode(), state.encode()) else None


def name_cookie(state: str) -> str:
    return "fbt_login_" + hashlib.sha256(state.encode()).hexdigest()[:12]


def serialize(policy: AccessPolicy) -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(policy.key, salt="fbt workbench login")
