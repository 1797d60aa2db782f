"""What merchandising rules earn: actions on the products that each rule moved."""

import pyarrow as pa

from components.online.events import SQL, OnlineEvents


def sum_rule_earnings(online: OnlineEvents) -> pa.Table:
    """`rule_id`, `lists` (in which it moved a product), and of those products `impressions`,
    `clicks`, `adds`, `purchases`, `revenue`; in order of `rule_id`.

    A list counts 1 / share of the log. A product that two rules moved counts for both. A rule that
    blocks or sets settings moves no product and has no row. What a product would have earned in
    another place is not taken off: only an experiment tells what a rule adds.
    """
    sql = (SQL / "rule_earnings.sql").read_text()
    return online.db.sql(sql).to_arrow_table()
