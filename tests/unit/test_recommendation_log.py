"""The recommendation log: which answers it holds, and what it holds of them."""

import json

import pytest

from bento import recommendation_log
from bento.answering.arms import Deployment, ServedModel
from bento.answering.rules import RuleSet
from bento.recommendation_log import RecommendationLog
from bento.schemas.requests import ProductAttributes, RecommendRequest, SimilarRequest
from bento.schemas.rules import Rule
from bento.served_arms import OpenBundles
from bento.settings import Settings
from components.events.recommendation import Recommendation
from components.events.sinks.blocks import read_block
from tests.factories import make_bundle


class Blocks:
    """Keeps what it gets, as a queue in front of a sink."""

    def __init__(self):
        self.records, self.sizes = [], []

    def put_recommendations(self, block, n):
        rows = json.loads(block)
        assert len(rows) == n
        self.sizes.append(n)
        self.records += [Recommendation(*row) for row in rows]


@pytest.fixture(scope="module")
def deployment(tmp_path_factory):
    bundle = make_bundle(tmp_path_factory.mktemp("log") / "bundle")
    return Deployment(ServedModel("3", "default", OpenBundles(Settings()).select(bundle)))


@pytest.fixture
def log_answers(deployment):
    """The records of requests; the log is closed at once."""

    def write(requests, share=1.0, ids=None):
        blocks, dropped = Blocks(), []
        log = RecommendationLog(blocks, share, dropped.append).start()
        for number, request in enumerate(requests):
            request_id = f"r{number}" if ids is None else ids[number]
            if isinstance(request, SimilarRequest):
                log.add("similar", deployment.similar(request, request_id), request, request_id)
            else:
                log.add("recommend", deployment.recommend(request, request_id), request, request_id)
        log.close()
        return blocks, sum(dropped)

    return write


PAGE = RecommendRequest(items=["tea"], k=2, session_id="s")


def test_a_record_has_what_was_asked_and_shown(log_answers):
    (one,) = log_answers([PAGE])[0].records
    assert one._replace(ts_us=0) == Recommendation(
        request_id="r0", ts_us=0, session_id="s", endpoint="recommend", context="product_page",
        model_version="3", arm="default", experiment=None, share=1, asked=["tea"],
        items=["milk", "coffee"], sources=["model", "model"], rules=[],
    )  # fmt: skip
    assert one.ts_us > 1_700_000_000_000_000


def test_the_same_share_is_logged_of_the_same_ids(log_answers):
    pages = [PAGE] * 4000
    logged = [{one.request_id for one in log_answers(pages, 0.25)[0].records} for _ in range(2)]
    assert logged[0] == logged[1]
    assert len(logged[0]) / len(pages) == pytest.approx(0.25, abs=0.028)
    assert log_answers(pages[:100], 0)[0].records == []


def test_blocks_are_bounded_and_in_order(log_answers):
    blocks, dropped = log_answers([PAGE] * 700)
    assert [one.request_id for one in blocks.records] == [f"r{i}" for i in range(700)]
    assert (max(blocks.sizes) <= 256, dropped) == (True, 0)


def test_what_does_not_fit_is_counted(log_answers, monkeypatch):
    monkeypatch.setattr(recommendation_log, "MAX_PENDING", 10)
    monkeypatch.setattr(recommendation_log, "FLUSH_S", 60)
    blocks, dropped = log_answers([PAGE] * 25)
    assert (len(blocks.records), dropped) == (10, 15)


@pytest.mark.parametrize(
    ("request_", "context"),
    [
        (RecommendRequest(items=["tea", "tea"]), "product_page"),
        (RecommendRequest(items=["no such"]), "product_page"),
        (RecommendRequest(attributes=ProductAttributes(name="tea")), "product_page"),
        (RecommendRequest(items=["tea", "pasta"]), "cart"),
        (RecommendRequest(items=["tea", "no such"]), "product_page"),
        (RecommendRequest(items=["no such", "nor such"]), "cart"),
        (RecommendRequest(items=["tea", "pasta"], context="checkout"), "checkout"),
        (RecommendRequest(items=["tea", "pasta"], context="product_page"), "product_page"),
        (SimilarRequest(item="tea"), "similar"),
    ],
)
def test_the_place_is_the_one_that_the_list_was_made_for(log_answers, request_, context):
    (one,) = log_answers([request_])[0].records
    assert one.context == context


def test_a_record_names_the_rules_of_each_product_and_earlier_records_none(tmp_path):
    bundles = OpenBundles(Settings())
    deployment = Deployment(ServedModel("3", "x", bundles.select(make_bundle(tmp_path / "b"))))
    bundles.apply_rules(
        RuleSet(
            Rule.model_validate_json(json.dumps({
                "action": action, "rule_id": action, "created_by": "ann",
                "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z", **more,
            }))
            for action, more in {
                "pin": {"target": {"product_id": "pesto"}, "position": 2},
                "set": {"settings": {"strict": False}},
            }.items()
        )
    )  # fmt: skip
    blocks = Blocks()
    log = RecommendationLog(blocks, 1.0).start()
    for request in (PAGE, PAGE.model_copy(update={"rules": False})):
        log.add("recommend", deployment.recommend(request, "r"), request, "r")
    log.close()
    assert [one.rule_ids for one in blocks.records] == [[[], ["pin"]], None]
    old = json.dumps([list(one[:-1]) for one in blocks.records])
    assert [one.rule_ids for one in read_block(old)] == [None, None]
