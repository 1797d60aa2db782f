"""Events of few sessions with an obvious result."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from components.contracts import (
    EVENTS,
    ORDER_LINES,
    PRODUCTS,
    RECOMMENDATIONS,
    SESSIONS,
    ContractError,
    read_table,
    write_table,
)
from components.online.events import (
    DROPPED,
    ORDER_SESSIONS,
    ORDERS,
    UNCREDITED,
    Sources,
    count_cleaned,
    open_events,
)
from components.online.measures import measure
from components.online.position_bias import estimate_position_bias
from components.online.sessions import build_sessions, count_team_clicks
from components.online.settings import OnlineSettings

NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)


def at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


class Shop:
    """Writes what shoppers did as the tables that compaction makes."""

    def __init__(self, root: Path):
        self.root = root
        self.events: list[dict] = []
        self.lists: list[dict] = []

    def show(self, request, items, session="anna", minute=0.0, **more):
        self.lists.append(
            {
                "request_id": request, "ts": at(minute), "session_id": session,
                "endpoint": "recommend", "context": "product_page", "model_version": "1",
                "arm": "control", "experiment": None, "share": 1.0, "asked": ["tea"],
                "items": items, "sources": ["model"] * len(items), "rules": [], "swap_drawn": False,
            } | more
        )  # fmt: skip

    def send(self, event, products, request=None, session="anna", minute=1.0, **more):
        event_id = more.pop("event_id", f"e{len(self.events)}")
        late = more.pop("late", 0)
        for product in products:
            self.events.append(
                {
                    "event_id": event_id, "event": event, "ts": at(minute),
                    "received_at": at(minute + late), "session_id": session,
                    "request_id": request, "product_id": product, "quantity": 1.0, "price": 10.0,
                } | more
            )  # fmt: skip

    def see(self, *args, **more):
        self.send("view_item_list", *args, **more)

    def click(self, *args, **more):
        self.send("select_item", *args, **more)

    def add(self, *args, **more):
        self.send("add_to_cart", *args, **more)

    def buy(self, *args, **more):
        self.send("purchase", *args, **more)

    def write(self):
        for folder, rows, schema in (
            ("events", self.events, EVENTS),
            ("recommendations", self.lists, RECOMMENDATIONS),
        ):
            table = pa.Table.from_pylist(rows, schema=pa.schema(list(schema)))
            path = self.root / folder / "day=2026-11-29" / "part.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_table(table, schema, path)

    def open(self, sources=None, **settings):
        self.write()
        return open_events(self.root, OnlineSettings(**settings), sources)


@pytest.fixture
def shop(tmp_path):
    return Shop(tmp_path)


def read_earned(online):
    """{(request, product): (clicks, adds, purchases, revenue)} of all impressions."""
    rows = online.db.execute(
        "select request_id, name, clicks, adds, purchases, revenue from impressions "
        "join lists using (list_id) "
        "join (select distinct make_key(request_id) as request_key, request_id "
        "from recommendation_files) using (request_key) "
        "join (select distinct make_key(product_id) as product_key, product_id as name "
        "from event_files) as names on names.product_key = impressions.product_key"
    ).fetchall()
    return {row[:2]: row[2:] for row in rows}


def read_measures(table):
    """{values of the dimensions: {measure: value}}; without dimensions {measure: value}."""
    found = {}
    by = table.column_names[: table.column_names.index("measure")]
    for row in table.to_pylist():
        found.setdefault(tuple(row[name] for name in by), {})[row["measure"]] = row["value"]
    return found if by else found[()]


def read_counts(online):
    """Rules and reasons that took a row."""
    counts = count_cleaned(online)
    return {name: counts[name] for name in (*DROPPED, *UNCREDITED) if counts[name]}


@pytest.fixture
def visit(shop):
    """Anna sees two products, clicks one, puts it into the cart and orders it with another."""
    shop.show("r1", ["milk", "jam"])
    shop.see(["milk", "jam"], "r1")
    shop.click(["jam"], "r1", minute=2)
    shop.add(["jam"], minute=3)
    shop.buy(["jam", "pan"], order_id="o1", minute=9, quantity=2.0)
    return shop


def test_a_visit_counts_for_what_it_saw(visit):
    with visit.open() as online:
        assert read_earned(online) == {("r1", "milk"): (0, 0, 0, 0), ("r1", "jam"): (1, 1, 1, 20)}
        assert read_measures(measure(online)) == {
            "click_through": 0.5,
            "add_rate": 0.5,
            "purchase_rate": 0.5,
            "revenue_per_1000": 10_000,
            "fallback_share": 0,
            "attach_rate": 1,
            "average_order_value": 40,
            "coverage": None,
        }
        assert read_counts(online) == {"no_touch": 1}


def test_an_order_without_a_recommended_product_is_not_attached(visit):
    visit.buy(["pan"], order_id="o2", minute=20)
    with visit.open() as online:
        measures = read_measures(measure(online))
    assert (measures["attach_rate"], measures["average_order_value"]) == (0.5, 25)


def test_measures_by_each_dimension(visit, tmp_path):
    visit.show(
        "r2", ["tea"], "bert", model_version="2", arm="new", experiment="spring", context="cart",
        sources=["bestsellers"], endpoint="similar", teams=["new"], minute=60 * 13,
    )  # fmt: skip
    visit.see(["tea"], "r2", "bert", minute=60 * 13)
    write_products(tmp_path / "p.parquet", milk="dairy", jam="sweet", tea="hot", water="hot")
    expected = {
        "model_version": {("1",): 0.5, ("2",): 0},
        "arm": {("control",): 0.5, ("new",): 0},
        "experiment": {(None,): 0.5, ("spring",): 0},
        "context": {("product_page",): 0.5, ("cart",): 0},
        "endpoint": {("recommend",): 0.5, ("similar",): 0},
        "day": {(NOON.date(),): 0.5, (NOON.date() + timedelta(days=1),): 0},
        "position": {(0,): 0, (1,): 1},
        "source": {("model",): 0.5, ("bestsellers",): 0},
        "team": {(None,): 0.5, ("new",): 0},
        "category": {("dairy",): 0, ("sweet",): 1, ("hot",): 0},
        "product_id": {("milk",): 0, ("jam",): 1, ("tea",): 0},
    }
    with visit.open(Sources(products=tmp_path / "p.parquet")) as online:
        for dimension, rates in expected.items():
            found = read_measures(measure(online, [dimension]))
            assert {key: one["click_through"] for key, one in found.items()} == rates
        by_source = read_measures(measure(online, ["source", "model_version"]))
        assert by_source["bestsellers", "2"]["fallback_share"] == 1
        assert by_source["model", "1"]["fallback_share"] == 0
        assert read_measures(measure(online))["coverage"] == 3 / 4
        assert read_measures(measure(online, ["category"]))[("hot",)]["coverage"] == 1 / 2
        with pytest.raises(ValueError, match="by: found 'colour', expected some of"):
            measure(online, ["colour"])


def write_products(path, **categories):
    rows = [{"product_id": one, "category": category} for one, category in categories.items()]
    write_table(pa.Table.from_pylist(rows, schema=pa.schema(list(PRODUCTS))), PRODUCTS, path)


def test_orders_count_for_the_day_they_are_made_on(visit):
    visit.show("r2", ["milk"], minute=60 * 24)
    visit.see(["milk"], "r2", minute=60 * 24)
    visit.buy(["pan"], order_id="o2", minute=60 * 24 + 1)
    with visit.open() as online:
        table = measure(online, ["day"])
    orders = {
        row["day"].day: row["denominator"]
        for row in table.to_pylist() if row["measure"] == "attach_rate"
    }  # fmt: skip
    assert orders == {29: 1, 30: 1}


@pytest.mark.parametrize(("minutes", "purchases"), [(24 * 60, 1), (24 * 60 + 0.01, 0)])
def test_the_window_ends_at_its_last_moment(shop, minutes, purchases):
    shop.show("r1", ["jam"])
    shop.see(["jam"], "r1", minute=1)
    shop.buy(["jam"], order_id="o1", minute=1 + minutes)
    with shop.open() as online:
        assert read_earned(online)["r1", "jam"][2] == purchases


@pytest.mark.parametrize(("touch", "request_id"), [("last", "r2"), ("first", "r1")])
def test_one_touch_of_several_counts(shop, touch, request_id):
    for request, minute in (("r1", 0), ("r2", 30), ("r3", 90)):
        shop.show(request, ["jam"], minute=minute)
        shop.see(["jam"], request, minute=minute + 1)
    shop.buy(["jam"], order_id="o1", minute=60)
    with shop.open(touch=touch) as online:
        bought = {key[0] for key, one in read_earned(online).items() if one[2]}
    assert bought == {request_id}


def test_a_request_id_counts_more_than_the_last_touch(shop):
    for request, minute in (("r1", 0), ("r2", 30)):
        shop.show(request, ["jam"], minute=minute)
        shop.see(["jam"], request, minute=minute + 1)
    shop.add(["jam"], "r1", minute=60)
    with shop.open() as online:
        assert {key[0] for key, one in read_earned(online).items() if one[1]} == {"r1"}


def test_another_session_s_purchase_does_not_count(visit):
    visit.buy(["milk"], session="bert", order_id="o2", minute=10)
    with visit.open() as online:
        assert read_earned(online)["r1", "milk"] == (0, 0, 0, 0)


def test_late_events_in_any_order_count(shop):
    shop.buy(["jam"], order_id="o1", minute=9)
    shop.click(["jam"], "r1", minute=2)
    shop.see(["jam"], "r1", minute=1, late=60 * 50)
    shop.show("r1", ["jam"])
    with shop.open() as online:
        assert read_earned(online) == {("r1", "jam"): (1, 0, 1, 10)}


def test_impressions_and_clicks_without_request_belong_to_the_last_list(shop):
    shop.show("r1", ["jam", "tea"], minute=0)
    shop.show("r2", ["jam"], minute=10)
    shop.show("r3", ["jam"], minute=20)
    shop.see(["jam", "tea"], minute=11)
    shop.click(["tea"], minute=12)
    shop.see(["tea"], minute=62)
    shop.see(["salt"], minute=11)
    with shop.open() as online:
        earned = read_earned(online)
        assert earned == {("r2", "jam"): (0, 0, 0, 0), ("r1", "tea"): (1, 0, 0, 0)}
        assert read_counts(online) == {"no_list": 2}


def test_a_product_counts_once_a_list(visit):
    visit.see(["jam"], "r1", minute=5)
    visit.click(["jam"], "r1", minute=5)
    with visit.open() as online:
        assert read_earned(online)["r1", "jam"] == (1, 1, 1, 20)


def test_a_list_asked_without_session_gets_that_of_its_impressions(shop):
    shop.show("r1", ["jam"], session=None)
    shop.see(["jam"], "r1")
    shop.buy(["jam"], order_id="o1", minute=5)
    with shop.open() as online:
        assert read_earned(online) == {("r1", "jam"): (0, 0, 1, 10)}
        assert build_sessions(online).num_rows == 0


def test_anonymous_lists_are_sessions_of_their_own(shop):
    for request in ("r1", "r2"):
        shop.show(request, ["jam"], session=None)
        shop.see(["jam"], request, session=None)
    shop.click(["jam"], "r1", session=None, minute=2)
    with shop.open() as online:
        row = measure(online).to_pylist()[0]
    assert (row["value"], row["n_sessions"]) == (0.5, 2)


def test_a_logged_list_stands_for_those_that_are_not_logged(shop):
    shop.show("r1", ["jam"], share=0.25)
    shop.see(["jam"], "r1")
    shop.show("r2", ["jam"], "bert")
    shop.see(["jam"], "r2", "bert")
    shop.click(["jam"], "r2", "bert", minute=2)
    shop.see(["jam"], "not logged", "cleo")
    with shop.open() as online:
        row = measure(online).to_pylist()[0]
        assert read_counts(online) == {"unknown_request": 1}
    assert (row["numerator"], row["denominator"]) == (1, 5)


# What is cleaned


def test_each_rule_counts_its_rows(visit):
    visit.see(["jam"], "r1", event_id="e2", late=5)  # the click's id with another body
    visit.see(["milk"], "r1", event_id="twice", minute=4)
    visit.see(["milk"], "r1", event_id="twice", minute=4)
    visit.send("view_cart", ["jam"])
    visit.see(["jam"], "r1", minute=200, late=-61)
    visit.buy(["milk"], order_id="o2", quantity=-1.0)
    visit.buy(["milk"], order_id="o3", price=-1.0)
    visit.buy(["milk"], order_id="o4", price=float("nan"))
    visit.buy(["milk"], order_id="o1", minute=30)
    with visit.open() as online:
        assert read_earned(online) == {("r1", "milk"): (0, 0, 0, 0), ("r1", "jam"): (1, 1, 1, 20)}
        assert read_counts(online) == {
            "repeated": 2, "other_event": 1, "future": 1, "bad_value": 3, "repeated_order": 1,
            "no_touch": 1,
        }  # fmt: skip
        counts = count_cleaned(online)
        assert counts["rows"] == counts["kept"] + 8


def test_each_reason_counts_its_rows(visit):
    visit.show("r2", ["salt"], "bert")
    visit.see(["jam"], "forged")
    visit.click(["jam"], "forged")
    visit.see(["salt"], "r2", "anna")
    visit.see(["soap"], "r1")
    visit.see(["milk"], "r1", minute=-1.01)
    visit.click(["salt"], "r2", "bert")
    visit.see(["milk"], session=None)
    with visit.open() as online:
        assert len(read_earned(online)) == 2
        assert read_counts(online) == {
            "unknown_request": 2, "other_session": 1, "not_in_list": 1, "before_list": 1,
            "unseen_click": 1, "no_list": 1, "no_touch": 1,
        }  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "clicks", "seconds", "sees"),
    [("fast_clicks", 6, 60, True), ("fast_events", 6, 1, False), ("blind_clicks", 3, 600, False)],
)
def test_robots_are_left_out_with_their_lists(visit, rule, clicks, seconds, sees):
    visit.show("r9", ["jam"], "robot")
    visit.see(["jam"], "r9", "robot" if sees else "cleo")
    for i in range(clicks):
        visit.click(["jam"], "r9", "robot", minute=1 + i * seconds / 60)
    limits = {"max_clicks_h": 5, "max_events_min": 5, "max_blind_clicks": 2}
    limits |= {"max_clicks_h": 100} if rule != "fast_clicks" else {}
    with visit.open(**limits) as online:
        counts = count_cleaned(online)
        assert {name: counts[name] for name in ("lists", "robot_sessions", rule)} == {
            "lists": 1, "robot_sessions": 1, rule: clicks + sees
        }  # fmt: skip
        assert sum(counts[name] for name in DROPPED) == clicks + sees


def test_busy_people_are_no_robots(visit):
    for i in range(120):
        visit.see(["milk", "jam"], "r1", minute=30 + i / 121)
    for i in range(199):
        visit.click(["jam"], "r1", minute=60 + i / 4)
    with visit.open() as online:
        assert count_cleaned(online)["robot_sessions"] == 0


ALIKE = ("s6-6915-2-select_item-2", "s6-6917-2-select_item-4")
"""Ids of the same hash() in DuckDB 2.0."""


def test_similar_ids_stay_apart(shop):
    for session in ALIKE:
        shop.show(f"list of {session}", ALIKE, session=session)
        shop.see(ALIKE, f"list of {session}", session=session)
    shop.click(ALIKE[:1], f"list of {ALIKE[0]}", session=ALIKE[0], event_id=ALIKE[0])
    shop.click(ALIKE[1:], f"list of {ALIKE[1]}", session=ALIKE[1], event_id=ALIKE[1])
    with shop.open() as online:
        rows = measure(online, ["product_id"]).to_pylist()
    clicks = {row["product_id"]: row for row in rows if row["measure"] == "click_through"}
    assert {name: (one["numerator"], one["denominator"]) for name, one in clicks.items()} == {
        ALIKE[0]: (1, 2), ALIKE[1]: (1, 2)
    }  # fmt: skip


def test_a_repeated_list_counts_once(visit):
    visit.show("r1", ["milk", "jam"], minute=1, arm="new")
    with visit.open() as online:
        assert count_cleaned(online)["repeated_lists"] == 1
        assert {row["arm"] for row in measure(online, ["arm"]).to_pylist()} == {"control"}


def test_lists_between_since_and_until_count_with_what_followed(shop):
    for request, minute in (("r1", 0), ("r2", 60), ("r3", 120)):
        shop.show(request, ["jam"], minute=minute)
        shop.see(["jam"], request, minute=minute)
    shop.buy(["jam"], order_id="o0", minute=30)
    shop.buy(["jam"], order_id="o1", minute=200)
    shop.buy(["jam"], order_id="o2", minute=121 + 24 * 60)
    with shop.open(since=at(60), until=at(120)) as online:
        assert read_earned(online) == {("r2", "jam"): (0, 0, 1, 10)}
        assert read_counts(online) == {}
        session = build_sessions(online).to_pylist()[0]
    assert (session["orders"], session["earlier_orders"]) == (1, 1)


def test_nothing_at_all(shop):
    shop.write()
    with open_events(shop.root) as online:
        assert measure(online).num_rows in (0, 8)
        assert build_sessions(online).num_rows == 0
        assert estimate_position_bias(online)["propensity"].to_pylist() == [1]


def test_absent_tables_are_named(tmp_path):
    with pytest.raises(ContractError, match="events: nothing found"), open_events(tmp_path):
        pass


# Nightly order lines


def write_order_lines(path, *lines):
    names = ("order_id", "product_id", "quantity", "price", "ts")
    rows = [dict(zip(names, line, strict=False)) for line in lines]
    table = pa.Table.from_pylist(rows, schema=pa.schema(list(ORDER_LINES)))
    write_table(table, ORDER_LINES, path)
    return path


def test_order_lines_give_prices_and_products_that_the_event_lacks(visit, tmp_path):
    visit.buy(["tea"], order_id="o2", minute=10)
    lines = write_order_lines(
        tmp_path / "l.parquet", ("o1", "jam", 3.0, 7.0), ("o1", "milk", 1.0, 2.0)
    )
    with visit.open(Sources(order_lines=lines)) as online:
        earned = read_earned(online)
        assert earned == {("r1", "milk"): (0, 0, 1, 2), ("r1", "jam"): (1, 1, 1, 21)}
        assert read_measures(measure(online))["average_order_value"] == (23 + 10) / 2
        assert count_cleaned(online)["lines_without_event"] == 1


def test_orders_whose_event_was_lost_count_by_their_session(visit, tmp_path):
    lines = write_order_lines(
        tmp_path / "l.parquet",
        ("o8", "milk", 1.0, 5.0, at(20)),
        ("o9", "milk", 1.0, 5.0, at(20)),
    )
    known = pa.table({"order_id": ["o8"], "session_id": ["anna"]})
    write_table(known, ORDER_SESSIONS, tmp_path / "s.parquet")
    sources = Sources(order_lines=lines, order_sessions=tmp_path / "s.parquet")
    with visit.open(sources) as online:
        assert read_earned(online)["r1", "milk"] == (0, 0, 1, 5)
        counts = count_cleaned(online)
    assert [counts[name] for name in ORDERS] == [2, 1, 1]


# Sessions


def test_sessions_before_and_after_their_first_list(shop):
    shop.click(["jam"], "old", minute=-30)
    shop.buy(["pan"], order_id="o0", minute=-20, price=7.0)
    shop.show("r1", ["jam", "tea"], experiment="spring")
    shop.show("r2", ["jam"], experiment="spring", minute=2, share=0.5)
    shop.show("r3", ["jam"], "bert", arm="new", experiment="spring", minute=-1)
    shop.show("r4", ["jam"], "bert", minute=-5)
    shop.see(["jam", "tea"], "r1", minute=1)
    shop.see(["jam"], "r2", minute=3)
    shop.click(["jam"], "r1", minute=3)
    shop.buy(["jam"], order_id="o1", minute=9, price=4.0)
    shop.buy(["pan"], order_id="o2", minute=9, price=5.0)
    with shop.open() as online:
        bert, anna = build_sessions(online, "spring", shop.root / "sessions.parquet").to_pylist()
        assert build_sessions(online).num_rows == 3
    assert anna == {
        "session_id": "anna", "experiment": "spring", "model_version": "1", "arm": "control",
        "first_ts": at(0), "is_seen": True, "lists": 3, "impressions": 4, "clicks": 1, "adds": 0,
        "purchases": 2, "revenue": 8, "orders": 2, "attached_orders": 1, "order_value": 9,
        "earlier_orders": 1, "earlier_order_value": 7, "earlier_clicks": 1,
    }  # fmt: skip
    assert (bert["arm"], bert["first_ts"], bert["is_seen"]) == ("new", at(-1), False)
    assert read_table(shop.root / "sessions.parquet", SESSIONS).num_rows == 2


def test_sessions_without_recommendations_count_by_their_arm(shop):
    shop.show("r1", [], "bert", arm="holdout", experiment="spring")
    shop.buy(["pan"], session="bert", minute=3, price=6.0)
    shop.show("r2", ["jam"], experiment="spring")
    with shop.open() as online:
        bert = build_sessions(online, "spring").to_pylist()[1]
    assert (bert["arm"], bert["is_seen"], bert["orders"], bert["order_value"]) == (
        "holdout", False, 1, 6
    )  # fmt: skip


def test_outcomes_of_a_session_count_within_its_window(shop):
    shop.show("r1", ["jam", "tea"], experiment="spring")
    shop.show("r2", ["jam", "tea"], experiment="spring", minute=100)
    shop.show("r3", ["jam"], experiment="spring", minute=121)
    shop.see(["jam", "tea"], "r1", minute=1)
    shop.see(["jam", "tea"], "r2", minute=101)
    shop.see(["jam"], "r3", minute=122)
    shop.click(["jam"], "r2", minute=119)
    shop.click(["tea"], "r2", minute=121)
    shop.add(["jam"], minute=125)
    shop.buy(["jam"], order_id="o1", minute=119, price=4.0)
    shop.buy(["jam", "pan"], order_id="o2", minute=121, price=5.0)
    names = ("lists", "impressions", "clicks", "adds", "purchases", "revenue", "orders",
             "attached_orders", "order_value")  # fmt: skip
    with shop.open(window_h=24) as online:
        [long] = build_sessions(online, "spring").to_pylist()
        [short] = build_sessions(online, "spring", window_h=2).to_pylist()
    assert [long[name] for name in names] == [3, 5, 2, 1, 2, 9, 2, 2, 14]
    assert [short[name] for name in names] == [2, 4, 1, 0, 1, 4, 1, 1, 4]
    with shop.open(window_h=2) as online:
        assert build_sessions(online, "spring").to_pylist() == [short]


def test_a_list_that_is_first_seen_after_the_window_was_not_seen(shop):
    shop.show("r1", ["jam"], experiment="spring")
    shop.see(["jam"], "r1", minute=121)
    with shop.open() as online:
        seen = [
            build_sessions(online, "spring", window_h=hours)["is_seen"].to_pylist()
            for hours in (2, 3)
        ]
    assert seen == [[False], [True]]


def test_all_orders_attach_at_a_rate_between_those_of_the_arms(shop):
    for number, (arm, attached) in enumerate([("now", True), ("now", False), ("new", True)]):
        session = f"s{number}"
        shop.show(f"r{number}", ["jam"], session, arm=arm, experiment="spring")
        shop.see(["jam"], f"r{number}", session)
        shop.buy(["jam" if attached else "pan"], session=session, order_id=session, minute=5)
    shop.show("r8", [], "held", arm="nobody", experiment="spring")
    shop.buy(["pan"], session="held", order_id="held", minute=5)
    shop.show("r9", ["jam"], "unseen", arm="new", experiment="spring")
    shop.buy(["pan"], session="unseen", order_id="unseen", minute=5)
    with shop.open() as online:
        by_arm = read_measures(measure(online, ["arm"]))
        total = read_measures(measure(online))
    assert {arm: one["attach_rate"] for (arm,), one in by_arm.items()} == {"now": 0.5, "new": 1}
    assert total["attach_rate"] == 2 / 3


def test_an_arm_of_another_experiment_is_another_arm(shop):
    shop.show("r1", ["jam"], experiment="spring")
    shop.show("r2", ["jam"], experiment="autumn", minute=1)
    shop.show("r3", ["jam"], minute=2)
    with shop.open() as online:
        rows = build_sessions(online).to_pylist()
    assert [row["experiment"] for row in rows] == ["spring", "autumn", None]


def test_a_session_of_an_experiment_keeps_the_version_of_its_first_list(shop):
    shop.show("r1", ["jam"], experiment="spring")
    shop.show("r2", ["jam"], experiment="spring", model_version="2", minute=5)
    with shop.open() as online:
        assert build_sessions(online, "spring")["model_version"].to_pylist() == ["1"]
        assert sorted(build_sessions(online)["model_version"].to_pylist()) == ["1", "2"]


def test_clicks_of_each_team(shop):
    shop.show("r1", ["jam", "tea", "pan"], experiment="mix", teams=["a", "b", ""])
    shop.see(["jam", "tea", "pan"], "r1")
    shop.click(["tea", "pan"], "r1", minute=2)
    with shop.open() as online:
        rows = count_team_clicks(online, "mix").to_pylist()
    assert [(row["team"], row["impressions"], row["clicks"]) for row in rows] == [
        ("a", 1, 0), ("b", 1, 1)
    ]  # fmt: skip
    assert rows[0]["first_ts"] == at(0)
