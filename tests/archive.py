"""A small archive of events, as compaction writes it."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa

from components.contracts import EVENTS, RECOMMENDATIONS, write_table

NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)
TODAY = NOON.date()


def write_archive(root, days=(TODAY,), n=4, arms=("a",), experiment=None):
    """On each day `n` sessions see milk and salt for tea: half click milk, a quarter buys it."""
    events, lists = [], []
    for day in days:
        for i in range(n):
            ts = datetime.combine(day, NOON.timetz()) + timedelta(minutes=i)
            name = f"{day}-{i}"
            lists.append({
                "request_id": name, "ts": ts, "session_id": name, "endpoint": "recommend",
                "context": "product_page", "model_version": "1", "arm": arms[i % len(arms)],
                "experiment": experiment,
                "share": 1.0, "asked": ["tea"], "items": ["milk", "salt"],
                "sources": ["model", "model"], "rules": [], "swapped": None, "swap_drawn": False,
                "teams": None, "drawn_pair": None,
            })  # fmt: skip
            told = [("view_item_list", ["milk", "salt"])]
            told += [("select_item", ["milk"])] if i < n / 2 else []
            told += [("purchase", ["milk"])] if i < n / 4 else []
            events += [
                {
                    "event_id": f"{event}{name}", "event": event, "ts": ts + timedelta(seconds=n),
                    "received_at": ts + timedelta(seconds=n), "session_id": name,
                    "request_id": name, "order_id": None, "product_id": product, "position": None,
                    "quantity": 1.0, "price": 2.0,
                }
                for n, (event, products) in enumerate(told)
                for product in products
            ]  # fmt: skip
    for rows, schema, folder in (
        (events, EVENTS, "events"), (lists, RECOMMENDATIONS, "recommendations"),
    ):  # fmt: skip
        for day in days:
            mine = [row for row in rows if row["ts"].date() == day]
            table = pa.Table.from_pylist(mine, pa.schema(list(schema)))
            write_table(table, schema, root / folder / f"day={day}" / "part.parquet")
    return root
