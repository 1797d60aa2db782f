"""The recommendation log: what was shown to whom, by which model version and arm."""

from typing import NamedTuple


class Recommendation(NamedTuple):
    """One answer. Blocks of them are stored as JSON arrays of arrays in this order of fields."""

    request_id: str
    ts_us: int
    """Microseconds since 1970."""
    session_id: str | None
    endpoint: str
    """`recommend` or `similar`."""
    context: str
    """The place: product_page, cart, checkout or similar."""
    model_version: str
    arm: str
    """The answer's `variant`: an arm of the experiment, or the deployment's name."""
    experiment: str | None
    share: float
    """Share of the answers that are logged, 0 to 1: one stands for 1 / share."""
    asked: list[str]
    items: list[str]
    """Products, best first: the position is the place in this list, from 0."""
    sources: list[str]
    """One for each of `items`; see `bento.schemas.responses.ItemSource`."""
    rules: list[str]
    """Actions of rules that moved a product."""
    swapped: int | None = None
    """The upper position of a random swap of two neighbours, made to measure position bias."""
    swap_drawn: bool = False
    """Whether the answer took part in the randomisation, swapped or not."""
    teams: list[str] | None = None
    """Under interleaving the arm that gave each of `items`; empty text for none."""
    drawn_pair: int | None = None
    """The upper position of the pair that was drawn, swapped or not; None unless `swap_drawn`."""
    rule_ids: list[list[str]] | None = None
    """For each of `items` the rules that moved it; None where none was moved. Rules that set
    settings of the whole list are not among them."""
