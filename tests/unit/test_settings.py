"""Settings of the service: what they take, what they say, and that all are documented."""

import ast
import functools
import inspect
import itertools
import os
from pathlib import Path

import pytest

from bento.settings import Rate, Settings, SettingsError, read_settings, variable_name

README = Path(__file__).parents[2] / "bento" / "README.md"


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in list(os.environ):
        if name.startswith("FBT_"):
            monkeypatch.delenv(name)
    return monkeypatch


def read(environment, variables):
    for name, text in variables.items():
        environment.setenv(name, text)
    return read_settings()


def test_nothing_need_be_set():
    settings = read_settings()
    assert settings == Settings()
    assert (settings.variant, settings.rate_limit, settings.tracing) == ("default", None, False)


def test_an_empty_variable_counts_as_unset(environment):
    assert read(environment, {"FBT_MAX_LAG_MS": "", "FBT_ADMIN_TOKEN": ""}).dump_changed() == {}


def test_values_are_read(environment):
    settings = read(
        environment,
        {
            "FBT_RATE_LIMIT": "100/m",
            "FBT_TRUSTED_PROXIES": "10.0.0.0/8, ::1",
            "FBT_CORS_ORIGINS": "https://a.example,https://b.example",
            "FBT_ACCESS_LOG": "1",
            "FBT_ADMIN_TOKEN": "secret",
            "FBT_EVENTS_INDEX_BASE": "1",
            "FBT_EVENTS_RATE_LIMIT": "10/s",
            "FBT_EVENTS_MAX_AGE_H": "24",
            "FBT_EVENTS_URL": "postgresql://u:secret@h/n",
            "FBT_EVENTS_KEY": "key of secret",
        },
    )
    assert settings.rate_limit == Rate(100, 60)
    assert [str(one) for one in settings.trusted_proxies] == ["10.0.0.0/8", "::1/128"]
    assert settings.cors_origins == ("https://a.example", "https://b.example")
    assert settings.access_log
    assert (settings.events_index_base, settings.events_rate_limit) == (1, Rate(10, 1))
    assert settings.events_max_age_h == 24
    assert "secret" not in f"{settings!r} {settings.dump_changed()}"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("FBT_MAX_CONNECTIONS", "0", "found '0', expected greater than or equal to 1"),
        ("FBT_MAX_LAG_MS", "soon", "found 'soon', expected a valid number"),
        ("FBT_READ_TIMEOUT_S", "nan", "found 'nan', expected"),
        ("FBT_MAX_OWN_KIND", "-2", "found '-2', expected greater than or equal to -1"),
        ("FBT_MAX_SAME_KIND", "0", "found '0', expected 1 or more, or -1 for no limit"),
        ("FBT_TRACING", "perhaps", "found 'perhaps', expected a valid boolean"),
        ("FBT_RATE_LIMIT", "100", "found '100', expected a number of requests per second"),
        ("FBT_RATE_LIMIT", "0/s", "found '0/s', expected a number of requests"),
        ("FBT_TRUSTED_PROXIES", "10.0.0.1/8", "expected addresses or networks"),
        ("FBT_SENSITIVE_PAIRS", "hide", "found 'hide', expected 'off', 'warn' or 'block'"),
        ("FBT_AS_OF", "Christmas", "found 'Christmas', expected a valid date"),
        ("FBT_EVENTS_INDEX_BASE", "2", "found '2', expected less than or equal to 1"),
        ("FBT_EVENTS_MAX_AGE_H", "0", "found '0', expected greater than or equal to 1"),
        ("FBT_LOG_SHARE", "10", "found '10', expected less than or equal to 1"),
        ("FBT_VARIANT", 'a"b', "FBT_VARIANT: found"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected(environment, name, text, message):
    with pytest.raises(SettingsError) as caught:
        read(environment, {name: text})
    assert str(caught.value).startswith(f"{name}: ")
    assert message in str(caught.value)


def test_every_wrong_value_is_named_at_once(environment):
    with pytest.raises(SettingsError, match=r"FBT_MAX_LAG_MS.*; FBT_TRACING"):
        read(environment, {"FBT_MAX_LAG_MS": "x", "FBT_TRACING": "x"})


def test_two_tokens_are_one_too_many(environment):
    with pytest.raises(SettingsError, match="only one of FBT_ADMIN_TOKEN and") as caught:
        read(environment, {"FBT_ADMIN_TOKEN": "s3cret", "FBT_ADMIN_TOKEN_FILE": "/token"})
    assert "s3cret" not in str(caught.value)


@functools.cache
def docstrings():
    """What stands below every field of Settings."""
    (body,) = (one.body for one in ast.parse(inspect.getsource(Settings)).body)
    return {
        field.target.id: said.value.value
        for field, said in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(said, ast.Expr)
    }


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_documented(name):
    assert docstrings()[name]
    assert f"| `{variable_name(name)}` |" in README.read_text()
