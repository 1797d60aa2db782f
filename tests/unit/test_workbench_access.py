"""Who may come into the workbench, decided before it starts, and where a login may lead."""

import pytest

from bento.settings import SettingsError
from bento.workbench.access.claims import find_person_name, find_role
from bento.workbench.access.hosts import is_loopback
from bento.workbench.access.person import Person, Role
from bento.workbench.access.policy import decide_access
from bento.workbench.access.redirects import to_safe_path
from bento.workbench.settings import WorkbenchSettings, read_workbench_settings

PROVIDER = {"oidc_issuer": "https://login.shop.example", "oidc_client_id": "fbt"}


def decide(host="127.0.0.1", **settings):
    return decide_access(WorkbenchSettings(**settings), host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "::1"])
def test_on_loopback_the_machines_user_may_do_all(host, monkeypatch):
    monkeypatch.setenv("LOGNAME", "ada")
    assert decide(host).everybody == Person("ada", Role.releaser)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "10.0.0.7", "shop.example"])
def test_elsewhere_it_does_not_start_until_something_says_who_may_come_in(host):
    with pytest.raises(SettingsError, match=r"FBT_OIDC_ISSUER .* or FBT_WORKBENCH_OPEN=viewer"):
        decide(host)


@pytest.mark.parametrize(
    "public", [{"workbench_url": "https://w.shop.example"}, {"workbench_hosts": "w.shop.example"}]
)
def test_a_public_name_in_front_of_loopback_is_elsewhere(public):
    with pytest.raises(SettingsError, match=r"can reach it as 'w\.shop\.example'"):
        decide(**public)


@pytest.mark.parametrize("role", Role)
def test_the_switch_gives_everybody_its_role(role):
    assert decide("0.0.0.0", workbench_open=role.name).everybody == Person("everybody", role)


def test_with_a_provider_nobody_comes_in_without_a_login():
    assert decide("0.0.0.0", **PROVIDER).everybody is None
    assert decide("127.0.0.1", **PROVIDER).everybody is None


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"FBT_OIDC_ISSUER": "http://login.shop.example"}, "expected an https:// URL"),
        ({"FBT_WORKBENCH_OPEN": "admin"}, "'viewer', 'editor' or 'releaser'"),
        ({"FBT_WORKBENCH_URL": "https://shop.example/fbt"}, "expected a URL without a path"),
        ({"FBT_OIDC_SCOPES": "profile"}, "FBT_OIDC_SCOPES"),
        ({"FBT_TRUSTED_PROXIES": "gateway"}, "expected addresses or networks"),
        ({"FBT_WORKBENCH_SESSION_H": "0"}, "FBT_WORKBENCH_SESSION_H"),
        (
            {"FBT_WORKBENCH_OPEN": "viewer", "FBT_OIDC_ISSUER": "https://login.shop.example"},
            "only one of FBT_WORKBENCH_OPEN and FBT_OIDC_ISSUER",
        ),
    ],
)
def test_a_wrong_setting_is_named(variables, message, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=message):
        read_workbench_settings()


def test_the_shops_admin_token_is_no_setting_of_the_workbench(monkeypatch):
    monkeypatch.setenv("FBT_ADMIN_TOKEN", "a-secret-of-the-shop")
    assert "a-secret-of-the-shop" not in repr(read_workbench_settings())


def test_a_provider_needs_a_client_id():
    with pytest.raises(SettingsError, match="FBT_OIDC_CLIENT_ID: not set"):
        decide(oidc_issuer="https://login.shop.example")


def test_replicas_share_a_key_from_a_file(tmp_path):
    file = tmp_path / "key"
    file.write_text("k" * 32 + "\n")
    one, other = (decide(workbench_session_key_file=file) for _ in range(2))
    assert one.sign("form", "x") == other.sign("form", "x")
    assert decide().sign("form", "x") != decide().sign("form", "x")


def test_a_short_or_missing_key_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="found 6 characters, expected at least 32"):
        decide(workbench_session_key="secret")
    with pytest.raises(SettingsError, match=r"FBT_WORKBENCH_SESSION_KEY_FILE: found .*nowhere"):
        decide(workbench_session_key_file=tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("path", "safe"),
    [
        ("/compare?a=7&b=8", "/compare?a=7&b=8"),
        ("/product/50%25+off", "/product/50%25+off"),
        ("https://evil.example/", "/"),
        ("//evil.example/", "/"),
        ("/\\evil.example", "/"),
        ("/\t/evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("", "/"),
        ("/login?next=/login", "/"),
        ("/" + "x" * 3000, "/"),
    ],
)
def test_a_login_leads_nowhere_else(path, safe):
    assert to_safe_path(path) == safe


@pytest.mark.parametrize(
    ("claim", "claims", "role"),
    [
        ("roles", {"roles": ["fbt-viewer"]}, Role.viewer),
        ("roles", {"roles": ["staff", "fbt-editor", "fbt-viewer"]}, Role.editor),
        ("roles", {"roles": "fbt-releaser"}, Role.releaser),
        ("realm_access.roles", {"realm_access": {"roles": ["fbt-editor"]}}, Role.editor),
        ("https://shop.example/roles", {"https://shop.example/roles": ["fbt-viewer"]}, Role.viewer),
        ("roles", {"roles": ["fbt-viewers", "FBT-VIEWER", 7, None]}, None),
        ("roles", {"roles": {"fbt-viewer": True}}, None),
        ("realm_access.roles", {"realm_access": "fbt-viewer"}, None),
        ("roles", {}, None),
    ],
)
def test_the_highest_role_of_the_claim_counts(claim, claims, role):
    assert find_role(claims, WorkbenchSettings(oidc_role_claim=claim)) == role


def test_a_shops_own_group_names_give_roles():
    settings = WorkbenchSettings(
        oidc_role_claim="groups", oidc_viewers="staff,merchandising", oidc_releasers="ml-engineers"
    )
    assert find_role({"groups": ["merchandising"]}, settings) == Role.viewer
    assert find_role({"groups": ["ml-engineers", "staff"]}, settings) == Role.releaser
    assert find_role({"groups": ["fbt-viewer"]}, settings) is None


def test_a_person_is_named_as_the_provider_names_them():
    settings = WorkbenchSettings()
    assert find_person_name({"sub": "17", "preferred_username": "ada"}, settings) == "ada"
    assert find_person_name({"sub": "17", "email": "ada@shop.example"}, settings) == (
        "ada@shop.example"
    )
    assert find_person_name({"sub": "17", "preferred_username": "\n\x00"}, settings) == "17"
    assert len(find_person_name({"sub": "x" * 500}, settings)) == 128


@pytest.mark.parametrize("host", ["127.0.0.1.evil.example", "localhost.evil.example", "0.0.0.0"])
def test_a_name_that_begins_like_loopback_is_not_loopback(host):
    assert not is_loopback(host)
