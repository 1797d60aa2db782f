"""Token buckets, forwarded addresses, tokens and routes, without a server."""

import ipaddress
import json
import logging

import pytest

from bento.http.errors import HttpError
from bento.http.limits import AdminToken, ClientAddresses, RateLimit
from bento.http.logs import JsonFormatter
from bento.http.request_context import choose_request_id
from bento.http.routing import Route, group_by_pattern
from bento.settings import Rate, Settings, SettingsError


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def passes(limit, client):
    try:
        limit.check(client)
    except HttpError as refused:
        return int(refused.headers["retry-after"])
    return True


def test_a_bucket_holds_one_period_and_refills_evenly():
    clock = Clock()
    limit = RateLimit(Rate(6, 60), clock)
    assert [passes(limit, "a") for _ in range(7)] == [True] * 6 + [10]
    assert passes(limit, "b") is True
    clock.now += 9.5
    assert passes(limit, "a") == 1
    clock.now += 0.5
    assert [passes(limit, "a"), passes(limit, "a")] == [True, 10]
    clock.now += 3600
    assert [passes(limit, "a") for _ in range(7)] == [True] * 6 + [10]


def test_addresses_of_one_ipv6_customer_share_a_bucket():
    limit = RateLimit(Rate(1, 60), Clock())
    assert passes(limit, "2001:db8::1") is True
    assert passes(limit, "2001:db8::ffff:1") == 60
    assert passes(limit, "2001:db8:0:1::1") is True
    assert passes(limit, "::ffff:10.0.0.1") is True
    assert passes(limit, "::ffff:10.0.0.2") is True


def test_buckets_take_bounded_memory_and_those_in_use_stay():
    clock = Clock()
    limit = RateLimit(Rate(1, 60), clock)
    for i in range(5 * limit.MAX_CLIENTS):
        if i % 1000 == 0:
            passes(limit, "greedy")
        limit.check(f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}")
        assert len(limit._full_at) <= limit.MAX_CLIENTS
    assert passes(limit, "greedy") == 60


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", b"1.2.3.4", "1.2.3.4"),
        ("10.0.0.1", b"6.6.6.6, 1.2.3.4, 10.0.0.2", "1.2.3.4"),
        ("10.0.0.1", b"10.0.0.3", "10.0.0.3"),
        ("10.0.0.1", b"nonsense", "nonsense"),
        ("9.9.9.9", b"1.2.3.4", "9.9.9.9"),
        ("::ffff:10.0.0.1", b"1.2.3.4", "1.2.3.4"),
        ("", b"1.2.3.4", ""),
    ],
)
def test_only_trusted_proxies_say_who_asks(peer, forwarded, address):
    clients = ClientAddresses([ipaddress.ip_network("10.0.0.0/8")])
    assert clients.find(peer, forwarded) == address
    assert ClientAddresses([]).find(peer, forwarded) == peer


def test_a_token_file_without_a_token_is_named(tmp_path):
    for file in (tmp_path / "none", tmp_path / "empty"):
        (tmp_path / "empty").write_text("\n")
        with pytest.raises(SettingsError, match=f"FBT_ADMIN_TOKEN_FILE: found {file}"):
            AdminToken(Settings(admin_token_file=file))


def test_a_token_file_that_goes_away_leaves_the_token(tmp_path):
    file = tmp_path / "token"
    file.write_text("right")
    token = AdminToken(Settings(admin_token_file=file))
    file.unlink()
    token.refresh()
    token.check({b"authorization": b"bearer right"})
    with pytest.raises(HttpError, match="Unauthorized"):
        token.check({b"authorization": b"Bearer wrong"})


def test_routes_are_grouped_by_path_and_each_is_routed_once():
    routes = [
        Route("GET", "/products", print),
        Route("GET", "/products/{product_id:path}", print),
        Route("PUT", "/products/{product_id:path}", print),
    ]
    grouped = group_by_pattern(routes)
    assert grouped.keys() == {"/products", "/products/{product_id:path}"}
    by_method = grouped["/products/{product_id:path}"]
    assert by_method == {"GET": routes[1], "HEAD": routes[1], "PUT": routes[2]}
    assert routes[1].path == "/products/{product_id}"
    with pytest.raises(ValueError, match="GET /products is routed twice"):
        group_by_pattern([*routes, routes[0]])


def test_request_ids_are_new_or_sane():
    made = {choose_request_id({}) for _ in range(1000)}
    assert len(made) == 1000
    assert {len(one) for one in made} == {32}
    assert choose_request_id({b"x-request-id": b"shop-1"}) == "shop-1"
    assert len(choose_request_id({b"x-request-id": b"a\r\nb"})) == 32


def test_a_line_of_log_is_json_with_what_it_carries():
    record = logging.makeLogRecord(
        {"msg": "shed", "levelname": "WARNING", "created": 0.0, "reason": "lag", "n": 3}
    )
    line = json.loads(JsonFormatter().format(record))
    assert line.pop("pid")
    assert line == {
        "ts": "1970-01-01T00:00:00.000+00:00",
        "level": "warning",
        "event": "shed",
        "reason": "lag",
        "n": 3,
    }
