"""Tables for a terminal."""

from collections.abc import Sequence

from components.registry.promotion import Move
from components.registry.registry import Version


def versions_table(versions: Sequence[Version]) -> str:
    if not versions:
        return "no versions yet; `fbt run` makes one"
    head = ("version", "verdict", "NDCG@10 page", "cart", "coverage", "products", "made", "is")
    rows = [
        (
            one.version, one.verdict,
            one.tags.get("fbt.ndcg_a", ""), one.tags.get("fbt.ndcg_b", ""),
            one.tags.get("fbt.coverage_a", ""), one.tags.get("fbt.products", ""),
            one.created_at, ", ".join(one.aliases),
        )
        for one in versions
    ]  # fmt: skip
    return table(head, rows)


def moves_table(moves: Sequence[Move]) -> str:
    if not moves:
        return "nothing has been promoted yet"
    rows = [(one.at[:19], one.to or "(none)", one.came_from, one.why, one.by) for one in moves]
    return table(("when (UTC)", "champion", "before", "how", "by"), rows)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(str(row[i])) for row in (head, *rows)) for i in range(len(head))]
    lines = [
        "  ".join(str(c).ljust(w) for c, w in zip(row, widths, strict=True))
        for row in (head, *rows)
    ]
    return "\n".join(line.rstrip() for line in lines)
