"""Token buckets, forwarded addresses, tokens and routes, without a server."""

import ipaddress
import json
import logging

import pytest

from bento.http.limits import AdminToken, ClientAddresses, RateLimit
from bento.http.metrics import JsonFormatter
from bento.http.request_context import choose_request_id
from bento.http.routing import HttpError, Route, Router
from bento.settings import Rate, Settings, SettingsError


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def passes(limit, client):
    try:
        limit.check(client)
    except HttpError as refused:
        return int(dict(refused.headers)[b"retry-after"])
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
    assert clients.address(peer, forwarded) == address
    assert ClientAddresses([]).address(peer, forwarded) == peer


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


def answer(_service, _request):
    raise AssertionError


def test_routes_are_found_by_path_and_pattern():
    routes = [
        Route("GET", "/products", answer),
        Route("GET", "/products/{product_id}", answer),
        Route("PUT", "/products/{product_id}", answer),
        Route("GET", "/pages/{file:rest}", answer),
    ]
    router = Router(routes)
    by_method, values = router.find("/products/a/b", b"/products/a%2Fb")
    assert (set(by_method), values) == ({"GET", "HEAD", "PUT"}, {"product_id": "a/b"})
    assert router.find("/pages/js/a.js", b"/pages/js/a.js")[1] == {"file": "js/a.js"}
    assert router.find("/products", b"/products")[1] == {}
    assert router.find("/products/a/b", b"/products/a/b") is None
    assert router.find("/product", b"/product") is None
    with pytest.raises(ValueError, match="GET /products is routed twice"):
        Router([*routes, routes[0]])


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
