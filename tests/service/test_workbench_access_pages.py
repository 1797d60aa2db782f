"""The workbench's access, over real sockets.

`oidc-provider-mock`, a process of its own, stands in for a company's identity provider, such as
Keycloak or Entra: discovery, signed ID tokens, nonces and logout are real OpenID Connect, passwords
are not asked for.
"""

import contextlib
import shutil
import subprocess
import sys
import time
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from starlette.routing import Route

from bento.workbench.access.person import Role
from bento.workbench.app import VIEWS, build_app
from bento.workbench.routing import ViewRoute
from bento.workbench.server import build_workbench
from bento.workbench.settings import WorkbenchSettings
from components.package.server import find_free_port
from tests.service.workbench import csrf_of, run_app, workbench

KEY = "a key that the replicas of the test share"
ROLES = {"eve": [], "vera": ["fbt-viewer"], "ed": ["fbt-editor"], "rea": ["fbt-releaser"]}
DECLARED = [route for module in VIEWS for route in module.VIEWS.routes]
FRAMING = {
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
}


@contextlib.contextmanager
def provider(port, *options):
    command = [sys.executable, "-m", "oidc_provider_mock", "--port", str(port), *options]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        while True:
            with contextlib.suppress(httpx.TransportError):
                httpx.get(f"{url}/.well-known/openid-configuration")
                break
            assert process.poll() is None
            time.sleep(0.05)
        for name, roles in ROLES.items():
            claims = {"preferred_username": name, "roles": roles}
            httpx.put(f"{url}/users/{name}", json=claims).raise_for_status()
        yield url
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="module")
def issuer():
    with provider(find_free_port()) as url:
        yield url


@pytest.fixture(scope="module")
def secured(issuer, tmp_path_factory):
    with workbench(tmp_path_factory.mktemp("home"), **login_at(issuer)) as url:
        yield url


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    with workbench(tmp_path_factory.mktemp("home")) as url:
        yield url


def login_at(issuer, **more):
    return {
        "oidc_issuer": issuer,
        "oidc_client_id": "fbt-workbench",
        "oidc_client_secret": "a-secret-of-the-client",
        "workbench_session_key": KEY,
        **more,
    }


def go_to_provider(browser, path="/"):
    """The provider's page, for a browser that asks for `path`."""
    asked = browser.get(path)
    assert asked.status_code == 303, asked.text
    assert asked.headers["location"].startswith("/login?next=")
    return browser.get(asked.headers["location"]).headers["location"]


def consent(url, name):
    """The provider's way back to the workbench, after `name` has logged in."""
    return httpx.post(url, data={"sub": name}).headers["location"]


def log_in(url, name, path="/"):
    """A browser that has come back to the workbench, and the response to that."""
    browser = httpx.Client(base_url=url, timeout=20)
    return browser, browser.get(consent(go_to_provider(browser, path), name))


def shown_person(browser):
    """Name and role in the head of a page that needs no neighbour."""
    text = browser.get("/no-such-page").text
    return text.partition('class="person">')[2].partition("<bdi>")[2].partition("</span>")[0]


@pytest.mark.parametrize("name", ["vera", "ed", "rea"])
def test_a_person_logs_in_with_the_role_of_the_claim_and_comes_to_the_page_asked_for(secured, name):
    browser, back = log_in(secured, name, "/compare?a=7&b=8%20%2B")
    assert back.status_code == 303
    assert back.headers["location"] == "/compare?a=7&b=8%20%2B"
    assert shown_person(browser).startswith(f"{name}</bdi> · ")
    cookie = back.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert "secure" not in cookie  # not on plain HTTP, where browsers would drop it


def test_the_request_to_the_provider_has_state_nonce_and_challenge(secured):
    browser = httpx.Client(base_url=secured)
    first, second = (parse_qs(urlsplit(go_to_provider(browser)).query) for _ in range(2))
    assert first["response_type"] == ["code"]
    assert first["code_challenge_method"] == ["S256"]
    assert first["redirect_uri"] == [f"{secured}/login/callback"]
    for name in ("state", "nonce", "code_challenge"):
        assert len(first[name][0]) >= 20
        assert first[name] != second[name]


def test_a_person_without_a_role_is_told_so(secured):
    browser, back = log_in(secured, "eve")
    assert back.status_code == 403
    assert "No access yet" in back.text
    assert "where you have none" in back.text
    assert browser.get("/").status_code == 303


def test_a_person_may_log_in_as_somebody_else(secured):
    asked = httpx.get(f"{secured}/login?other").headers["location"]
    assert parse_qs(urlsplit(asked).query)["prompt"] == ["login"]


def test_a_login_in_another_browser_does_not_count(secured):
    """The state belongs to the browser that started: nobody is logged in as somebody else."""
    with httpx.Client(base_url=secured) as attacker:
        back = consent(go_to_provider(attacker), "rea")
    victim = httpx.Client(base_url=secured)
    go_to_provider(victim)
    refused = victim.get(back)
    assert refused.status_code == 403
    assert "in another browser" in refused.text
    assert victim.get("/").status_code == 303


def test_a_changed_state_does_not_count(secured):
    browser = httpx.Client(base_url=secured)
    back = consent(go_to_provider(browser), "vera")
    refused = browser.get(back.replace("state=", "state=x"))
    assert refused.status_code == 403


def test_a_changed_nonce_does_not_count(secured):
    """A token that was made for another login."""
    browser = httpx.Client(base_url=secured)
    address = go_to_provider(browser)
    nonce = parse_qs(urlsplit(address).query)["nonce"][0]
    refused = browser.get(consent(address.replace(nonce, "another-nonce"), "vera"))
    assert refused.status_code == 403
    assert "nonce" in refused.text
    assert browser.get("/").status_code == 303


def test_a_code_counts_once(secured):
    browser = httpx.Client(base_url=secured)
    back = consent(go_to_provider(browser), "vera")
    kept = dict(browser.cookies)
    assert browser.get(back).status_code == 303
    thief = httpx.Client(base_url=secured, cookies=kept)
    assert thief.get(back).status_code == 403


def test_a_person_may_refuse_at_the_provider(secured):
    browser = httpx.Client(base_url=secured)
    state = parse_qs(urlsplit(go_to_provider(browser)).query)["state"][0]
    given = {"state": state, "error": "access_denied", "error_description": "Vera <b>says</b> no"}
    refused = browser.get("/login/callback", params=given)
    assert refused.status_code == 403
    assert "the provider refused: Vera &lt;b&gt;says&lt;/b&gt; no" in refused.text


def test_several_tabs_may_log_in_at_once(secured):
    browser = httpx.Client(base_url=secured)
    tabs = [go_to_provider(browser, f"/map?tab={tab}") for tab in range(10)]
    for tab, address in enumerate(tabs):
        back = browser.get(consent(address, "vera"))
        assert back.headers["location"] == f"/map?tab={tab}"


def test_a_login_leads_to_no_other_site(secured):
    browser = httpx.Client(base_url=secured)
    sent = browser.get("/login", params={"next": "//evil.example/"}).headers["location"]
    assert browser.get(consent(sent, "vera")).headers["location"] == "/"


def test_an_expired_token_does_not_count(tmp_path):
    with (
        provider(find_free_port(), "--token-max-age", "-300") as issuer,
        workbench(tmp_path, **login_at(issuer)) as url,
    ):
        browser, back = log_in(url, "vera")
        assert back.status_code == 403
        assert "expired" in back.text
        assert browser.get("/").status_code == 303


def test_a_provider_that_is_down_is_said_and_recovers(tmp_path):
    port = find_free_port()
    with workbench(tmp_path, **login_at(f"http://127.0.0.1:{port}")) as url:
        browser = httpx.Client(base_url=url, timeout=20)
        down = browser.get("/login?next=/map")
        assert down.status_code == 503
        assert "The identity provider does not answer" in down.text
        assert "/static/login.js" in down.text
        with provider(port):
            back = consent(browser.get("/login?next=/map").headers["location"], "vera")
        # It fell between the login and its end.
        assert browser.get(back).status_code == 503
        with provider(port):
            back = consent(browser.get("/login?next=/map").headers["location"], "vera")
            assert browser.get(back).headers["location"] == "/map"


def test_a_provider_under_another_name_is_refused(issuer, tmp_path):
    """Tokens of one provider must not count for another."""
    other = issuer.replace("127.0.0.1", "localhost")
    with workbench(tmp_path, **login_at(f"{other}/?")) as url:
        assert httpx.get(f"{url}/login").status_code in (403, 503)


def test_a_tampered_session_does_not_count(secured):
    browser, _ = log_in(secured, "vera")
    value = browser.cookies["fbt_workbench"]
    payload, signature = value.split(".", 1)
    for forged in (
        f"{payload[:-4]}AAAA.{signature}",
        f"{payload}.{signature[:-2]}xx",
        payload,
        "null",
        "",
        "\xff\xfe",  # as bytes
    ):
        thief = httpx.Client(
            base_url=secured, headers={"cookie": f"fbt_workbench={forged}".encode("latin-1")}
        )
        assert thief.get("/").status_code == 303, forged


def test_replicas_share_sessions_by_their_key(secured, issuer, tmp_path):
    browser, _ = log_in(secured, "vera")
    with workbench(tmp_path, **login_at(issuer)) as other:
        kept = httpx.Client(base_url=other, cookies=dict(browser.cookies))
        assert shown_person(kept) == "vera</bdi> · viewer"
    with workbench(tmp_path, **login_at(issuer, workbench_session_key="x" * 32)) as stranger:
        assert httpx.get(f"{stranger}/", cookies=dict(browser.cookies)).status_code == 303


def test_a_session_ends(issuer, tmp_path):
    with workbench(tmp_path, **login_at(issuer, workbench_session_h=2 / 3600)) as url:
        browser, _ = log_in(url, "vera")
        kept = dict(browser.cookies)
        assert shown_person(browser) == "vera</bdi> · viewer"
        time.sleep(2.5)
        assert httpx.get(f"{url}/", cookies=kept).status_code == 303


def test_a_login_takes_nothing_over_from_the_session_before(secured):
    browser, _ = log_in(secured, "vera")
    before, token = browser.cookies["fbt_workbench"], csrf_of(browser)
    browser.cookies.set("fbt_workbench", before, domain="localhost.local")
    log_out_here(browser)
    again = browser.get(consent(go_to_provider(browser), "ed"))
    assert again.status_code == 303
    assert shown_person(browser) == "ed</bdi> · editor"
    assert csrf_of(browser) != token


def log_out_here(browser):
    return browser.post("/logout", data={"csrf": csrf_of(browser)})


def test_a_person_logs_out_here_and_at_the_provider(secured, issuer):
    browser, _ = log_in(secured, "vera")
    done = log_out_here(browser)
    assert done.status_code == 200
    assert f'href="{issuer}/oauth2/end_session?' in done.text
    assert "logged-out" in done.text
    assert browser.get("/").status_code == 303
    assert browser.get("/logged-out").status_code == 200


def test_where_nobody_logs_in_the_login_leads_home(local):
    assert httpx.get(f"{local}/login?next=/map").headers["location"] == "/map"
    assert httpx.get(f"{local}/login/callback?code=1&state=2").headers["location"] == "/"


def test_all_routes_are_declared_views(tmp_path):
    """Nothing is served beside the views whose roles the next tests try."""
    app = build_app(build_workbench(WorkbenchSettings(), tmp_path))
    others = {route.path for route in app.routes if not isinstance(route, ViewRoute)}
    assert others == {"/static", "/healthz"}


PUBLIC = {"/login", "/login/callback", "/logged-out"}


def test_only_the_way_in_is_open_to_all():
    assert {one.path for one in DECLARED if one.role is None} == PUBLIC
    assert all(one.role is not None for one in DECLARED if one.method == "POST")


def fill(path):
    """A path's parameters are all x."""
    parts = [part.partition("{")[0] + ("x" if "{" in part else "") for part in path.split("/")]
    return "/".join(parts)


@pytest.fixture(scope="module")
def people(secured):
    return {
        role: log_in(secured, name)[0] for role, name in zip(Role, list(ROLES)[1:], strict=True)
    }


@pytest.mark.parametrize("view", DECLARED, ids=lambda one: f"{one.method} {one.path}")
def test_every_route_refuses_those_without_its_role(view, secured, people):
    if view.role is None:
        return
    path = fill(view.path)
    stranger = httpx.request(view.method, secured + path)
    assert stranger.status_code == (303 if view.method == "GET" else 401)
    for role in (role for role in Role if role < view.role):
        headers = {"x-csrf-token": csrf_of(people[role])}
        refused = people[role].request(view.method, path, headers=headers)
        assert refused.status_code == 403, f"{role.name} may {view.method} {view.path}"
        assert f"expected {view.role.name}" in refused.text


@pytest.mark.parametrize(
    "view", [one for one in DECLARED if one.method == "POST"], ids=lambda one: one.path
)
def test_every_change_refuses_other_sites(view, people):
    browser, path = people[Role.releaser], fill(view.path)
    token = csrf_of(browser)
    stranger = csrf_of(people[Role.viewer])
    for headers in (
        {},
        {"x-csrf-token": "wrong"},
        {"x-csrf-token": stranger},
        {"x-csrf-token": token, "origin": "https://evil.example"},
        {"x-csrf-token": token, "origin": "null"},
        {"x-csrf-token": token, "sec-fetch-site": "cross-site"},
        {"x-csrf-token": token, "sec-fetch-site": "same-site"},
    ):
        assert browser.post(path, headers=headers).status_code == 403, headers


def test_a_form_of_our_own_page_is_taken(people, secured):
    browser = log_in(secured, "vera")[0]
    headers = {"origin": secured, "sec-fetch-site": "same-origin"}
    done = browser.post("/logout", data={"csrf": csrf_of(browser)}, headers=headers)
    assert done.status_code == 200


def test_a_script_that_asks_without_a_session_is_not_sent_to_the_provider(secured):
    answer = httpx.get(f"{secured}/map", headers={"sec-fetch-dest": "empty"})
    assert answer.status_code == 401


@pytest.mark.parametrize(
    "path", ["/", "/health", "/login", "/no-such-page", "/static/workbench.css", "/healthz", "/%00"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "DELETE"])
def test_no_answer_may_be_framed_or_kept(secured, local, path, method):
    for url in (secured, local):
        answer = httpx.request(method, url + path)
        assert FRAMING.items() <= dict(answer.headers).items()
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert "script-src 'self'" in answer.headers["content-security-policy"]
        is_private = url == secured and not path.startswith("/static/")
        kept = answer.headers["cache-control"]
        assert kept == "no-store" if is_private else kept in ("no-cache", "no-store")


async def break_down(_request):
    raise ZeroDivisionError


def test_a_crash_may_not_be_framed_either(tmp_path):
    settings = WorkbenchSettings()
    app = build_app(build_workbench(settings, tmp_path))
    app.router.routes.insert(0, Route("/broken", break_down))
    with run_app(app, log_level="critical") as url:
        answer = httpx.get(f"{url}/broken")
    assert answer.status_code == 500
    assert FRAMING.items() <= dict(answer.headers).items()
    assert "in the log of the workbench" in answer.text
    assert "ZeroDivisionError" not in answer.text


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:3002", 200),
        ("127.0.0.1", 200),
        ("[::1]:3002", 200),
        ("10.1.2.3:3002", 200),  # a probe; an address cannot be rebound
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("w.shop.example", 421),
        ("@", 421),
    ],
)
def test_a_rebound_name_is_refused(local, host, status):
    assert httpx.get(f"{local}/healthz", headers={"host": host}).status_code == status


def test_the_names_of_settings_are_ours(tmp_path):
    public = {"workbench_url": "https://w.shop.example", "workbench_hosts": "other.shop.example"}
    with workbench(tmp_path, **public, workbench_open="viewer") as url:
        for host in ("w.shop.example", "W.Shop.Example:443", "other.shop.example"):
            assert httpx.get(f"{url}/healthz", headers={"host": host}).status_code == 200
        assert httpx.get(f"{url}/healthz", headers={"host": "shop.example"}).status_code == 421


GATEWAY = {"x-forwarded-proto": "https", "x-forwarded-host": "w.shop.example"}


def redirect_uri(url, headers):
    sent = httpx.get(f"{url}/login", headers=headers)
    return parse_qs(urlsplit(sent.headers["location"]).query)["redirect_uri"][0], sent


def test_behind_a_trusted_gateway_the_login_returns_to_the_public_address(issuer, tmp_path):
    more = {"workbench_hosts": "w.shop.example", "trusted_proxies": "127.0.0.0/8,::1"}
    with workbench(tmp_path, **login_at(issuer, **more)) as url:
        address, sent = redirect_uri(url, GATEWAY)
        assert address == "https://w.shop.example/login/callback"
        assert sent.headers["set-cookie"].endswith("; Secure")
        forged = {**GATEWAY, "x-forwarded-host": "evil.example"}
        assert httpx.get(f"{url}/login", headers=forged).status_code == 421


def test_nobody_else_may_say_what_the_address_is(issuer, tmp_path):
    with workbench(tmp_path, **login_at(issuer, workbench_hosts="w.shop.example")) as url:
        address, _ = redirect_uri(url, GATEWAY)
        assert address == f"{url}/login/callback"


def test_a_public_https_address_makes_cookies_secure(issuer, tmp_path):
    more = {"workbench_url": "https://w.shop.example"}
    with workbench(tmp_path, **login_at(issuer, **more)) as url:
        address, sent = redirect_uri(url, {})
        assert address == "https://w.shop.example/login/callback"
        assert sent.headers["set-cookie"].endswith("; Secure")


@pytest.mark.parametrize("role", Role)
def test_the_switch_lets_everybody_in_with_its_role_and_no_more(role, tmp_path):
    with workbench(tmp_path, host="0.0.0.0", workbench_open=role.name) as url:
        browser = httpx.Client(base_url=url)
        assert shown_person(browser) == f"everybody</bdi> · {role.name}"
        for view in DECLARED:
            if view.method == "POST" and view.role > role:
                headers = {"x-csrf-token": csrf_of(browser)}
                assert browser.post(fill(view.path), headers=headers).status_code == 403


def test_a_form_that_is_too_large_is_refused(people):
    browser = people[Role.viewer]
    large = b"x" * (1024 * 1024 + 1)
    assert browser.post("/logout", content=large, headers=FORM).status_code == 413

    def in_pieces():
        yield from (large[i : i + 65536] for i in range(0, len(large), 65536))

    assert browser.post("/logout", content=in_pieces(), headers=FORM).status_code == 413


FORM = {"content-type": "application/x-www-form-urlencoded"}


def test_no_page_holds_a_secret(secured, people, monkeypatch):
    monkeypatch.setenv("FBT_ADMIN_TOKEN", "a-secret-of-the-shop")
    for view in DECLARED:
        if view.method == "GET":
            text = people[Role.releaser].get(fill(view.path)).text
            for secret in (KEY, "a-secret-of-the-client", "a-secret-of-the-shop"):
                assert secret not in text


def test_it_does_not_start_where_strangers_could_come_in(tmp_path):
    command = [sys.executable, "-m", "bento.workbench.server", "--host", "0.0.0.0"]
    command += ["--port", str(find_free_port()), "--home", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "FBT_OIDC_ISSUER" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Debian's chromium")
def test_a_browser_waits_for_the_provider_logs_in_and_out(tmp_path):
    """The way leads over two sites, as at a company; policies and cookies must let it."""
    playwright = pytest.importorskip("playwright.sync_api")
    port = find_free_port()
    with (
        workbench(tmp_path, **login_at(f"http://127.0.0.1:{port}")) as url,
        playwright.sync_playwright() as tool,
    ):
        chromium = tool.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = chromium.new_page()
        page.goto(f"{url}/rules?x=1")
        assert "The identity provider does not answer" in page.content()
        with provider(port):
            page.wait_for_url("**/oauth2/authorize**")
            page.fill("input[name=sub]", "vera")
            page.click("button:has-text('Authorize')")
            page.wait_for_url(f"{url}/rules?x=1")
            page.click("button:has-text('Log out')")
            page.wait_for_url("**/oauth2/end_session**")
        chromium.close()
