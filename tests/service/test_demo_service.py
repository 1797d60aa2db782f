"""The demo's last part: a registered version, a real service, three pages and a cart."""

import pytest

from components.package.server import serve_bundle
from components.registry.registry import VERDICT_TAG, register
from pipelines.demo import ask_for_examples, format_example, pick_products
from pipelines.mlflow_server import mlflow_server
from tests.factories import make_bundle


@pytest.mark.timeout(120)
def test_a_registered_version_is_shown_by_three_pages_and_a_cart(home, monkeypatch):
    bundle = make_bundle(home.root / "bundle")
    with mlflow_server(home) as registry:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.url)
        version = register({"bundle": bundle}, {}, {}, {VERDICT_TAG: "passed"})
        names = pick_products(home, version)
    with serve_bundle(bundle, version) as server:
        examples = ask_for_examples(server.url, names, version)
    assert [len(example.asked) for example in examples] == [1, 1, 1, 3]
    partners = {"tea": "Milk", "coffee": "Sugar", "bread": "Butter", "pasta": "Pesto"}
    partners |= {partner.lower(): product.title() for product, partner in partners.items()}
    for example in examples[:3]:
        (asked,) = example.asked
        first = f"  1. {partners[asked]}, the good one"
        assert format_example(example).splitlines()[1] == first
