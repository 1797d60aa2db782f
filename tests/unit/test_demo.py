"""Which answer the demo shows first."""

import pytest

from pipelines.demo import choose_example, is_varied


def example(label, lift):
    return {"label": label, "recommendations": [{"lift": lift}] * 5}


def answer(names, categories):
    items = zip(names, categories, strict=True)
    return {"items": [{"name": name, "category": category} for name, category in items]}


LOOK_ALIKES = answer(["Soft drinks"] * 5, ["SOFT DRINKS"] * 5)
VARIED = answer("abcde", "12344")
SURER = answer("fghij", "56787")


def test_look_alikes_are_never_the_first_answer_however_high_their_lift():
    examples = [example("Soft drinks", 40.0), example("Tea", 3.0), example("Pasta", 5.0)]
    assert choose_example(examples, [LOOK_ALIKES, VARIED, SURER]) == (examples[2], SURER)


@pytest.mark.parametrize(
    ("label", "found", "varied"),
    [
        ("Tea", VARIED, True),
        ("a", VARIED, False),
        ("Tea", answer("abcdd", "12345"), False),
        ("Tea", answer("abcde", "12333"), False),
    ],
)
def test_a_varied_answer_has_five_names_and_four_categories(label, found, varied):
    assert is_varied(found, label) is varied


def test_without_a_varied_answer_the_one_with_the_most_names_is_shown():
    pair = answer("aabbb", "11111")
    examples = [example("x", 9.0), example("y", 1.0)]
    assert choose_example(examples, [LOOK_ALIKES, pair]) == (examples[1], pair)
