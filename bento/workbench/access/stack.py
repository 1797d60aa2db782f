"""The middleware in front of all views, outermost first."""

from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware

from bento.workbench.access.body_limit import BodyLimit
from bento.workbench.access.forwarded import ForwardedHeaders
from bento.workbench.access.headers import SecurityHeaders
from bento.workbench.access.hosts import HostCheck
from bento.workbench.access.identify import Identify
from bento.workbench.access.policy import AccessPolicy

COOKIE = "fbt_workbench"


def build_access_middleware(policy: AccessPolicy) -> list[Middleware]:
    max_age = int(policy.settings.workbench_session_h * 3600)
    return [
        Middleware(SecurityHeaders, policy),
        Middleware(ForwardedHeaders, policy.settings.trusted_proxies),
        Middleware(HostCheck, policy.hosts),
        Middleware(BodyLimit),
        Middleware(
            SessionMiddleware,
            secret_key=policy.key,
            session_cookie=COOKIE,
            max_age=max_age,
            same_site="lax",
        ),
        Middleware(Identify, policy),
    ]
