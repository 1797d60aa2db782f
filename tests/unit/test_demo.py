"""The answers that the demo prints, and those that it refuses."""

import pytest

from pipelines.demo import (
    DemoFailed,
    Example,
    format_example,
    format_links,
    format_reason,
    verify,
)

WHY = {"product_id": "7", "bought_together": 1_200, "expected": 407.3, "times_more_often": 2.946}


def item(number, **more):
    return {"product_id": f"{number}", "name": f"Product {number}", "score": 0.5} | more


def answer(**more):
    items = [item(number, because_of=WHY) for number in range(1, 6)]
    return {"model_version": "3", "source": "model", "items": items} | more


@pytest.mark.parametrize(
    ("why", "asked", "reason"),
    [
        (
            WHY,
            {"7": "Tea"},
            "in 1,200 baskets together; by chance it would be 407: 2.9 times as often",
        ),
        (
            WHY | {"bought_together": 1, "expected": 0.04, "times_more_often": 25.0},
            {"7": "Tea", "8": "Cup"},
            "in 1 basket with Tea; by chance it would be under 0.1: 25 times as often",
        ),
        ({"product_id": "7", "bought_together": 12}, {"7": "Tea"}, "in 12 baskets together"),
        (WHY | {"expected": None}, {"7": "Tea"}, "in 1,200 baskets together"),
        (None, {"7": "Tea"}, "not seen together; bought in similar baskets"),
    ],
)
def test_the_reason_is_given_in_words(why, asked, reason):
    assert format_reason(item(1, because_of=why), asked) == reason


def test_a_page_names_the_product_and_its_companions():
    lines = format_example(Example({"7": "Tea"}, answer()["items"])).splitlines()
    assert lines[0] == "Bought together with Tea (product 7):"
    assert lines[1:3] == [
        "  1. Product 1",
        "     in 1,200 baskets together; by chance it would be 407: 2.9 times as often",
    ]
    assert len(lines) == 11


def test_a_cart_names_its_products():
    lines = format_example(Example({"7": "Tea", "8": "Cup"}, answer()["items"])).splitlines()
    assert lines[:4] == [
        "A cart:", "     Tea (product 7)", "     Cup (product 8)", "Bought together with these:",
    ]  # fmt: skip
    assert "in 1,200 baskets with Tea" in lines[5]


def test_the_links_name_every_server_and_the_product_in_the_workbench():
    urls = {name: f"http://{name}" for name in ("service", "workbench", "registry")}
    links = format_links(Example({"a/b 7": "Tea"}, []), report="report.html", **urls)
    assert "Workbench      http://workbench/product/a%2Fb%207\n" in links
    assert all(url in links for url in urls.values())


def test_lines_fit_a_terminal():
    long = {"7": "Tea " * 12, "8": "Cup"}
    lines = format_example(Example(long, answer()["items"])).splitlines()
    assert max(map(len, lines)) <= 96


def test_a_right_answer_passes():
    verify(answer(), ["7"], "3")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"model_version": "2"}, "model_version is 2, not 3"),
        ({"source": "bestsellers"}, "source is bestsellers, not model"),
        ({"items": [item(1)] * 5}, "1 different products, not 5"),
        ({"items": [item(n) for n in range(5, 10)]}, "contains a product asked for"),
        ({"items": [item(n, name=None) for n in range(5)]}, "a product has no name"),
        ({"items": [item(n, score=None) for n in range(5)]}, "a product has no score"),
    ],
)
def test_a_wrong_answer_is_refused_with_its_reason(wrong, message):
    with pytest.raises(DemoFailed, match=message):
        verify(answer(**wrong), ["7"], "3")
