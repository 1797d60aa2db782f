"""`fbt bench quality`: peers on baskets whose answer is obvious, the protocol, the refusals."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from components.contracts import BASKETS, PRODUCTS, write_table
from components.evaluation.measures import CatalogueFacts
from components.evaluation.tasks import Queries, draw_queries
from components.results import write_json
from pipelines.bench import quality, quality_chart, run_bench
from pipelines.bench.ablation import WHOLE, Inputs
from pipelines.bench.peers import counting, random_walk, rules, session_knn, slim
from pipelines.bench.peers.all_peers import list_peers
from pipelines.bench.peers.peer import CART, ITEM, MAX_SETTINGS, Peer, TrainingData, for_both_tasks
from pipelines.bench.peers.rankers import ItemItemMatrix
from pipelines.bench.peers.tuning import EXCESS, NDCG, tune
from pipelines.bench.processes import python_command, run_with_cpu_limit
from pipelines.cli import main
from tests.factories import corpus_of

N_SETS = 8
"""Tea, milk and sugar; bread, butter and jam; …: three products bought together, and only so."""


def data_of(*baskets, n_items):
    corpus = corpus_of(*baskets)
    return TrainingData(corpus, np.bincount(corpus.items, minlength=n_items).astype(np.int64))


def asked(*products):
    return [np.array(products, np.int32)]


@pytest.fixture(scope="module")
def sets():
    """The earlier sets are bought more often."""
    baskets = [(3 * i, 3 * i + 1, 3 * i + 2) for i in range(N_SETS) for _ in range(60 - 4 * i)]
    return data_of(*baskets, n_items=3 * N_SETS)


def knowing_peers():
    """gensim's defaults learn nothing from so little, and bestsellers never do."""
    return [one for one in list_peers() if one.name not in ("popularity", "gensim defaults")]


@pytest.mark.parametrize("peer", knowing_peers(), ids=lambda peer: peer.name)
def test_a_peer_finds_what_is_bought_together(peer, sets):
    model = peer.fit(sets, peer.settings[ITEM][0])
    for task, query, expected in ((ITEM, (6,), {7, 8}), (CART, (9, 10), {11})):
        for mode in peer.modes[task]:
            rows, _ = model.ranker(mode).rank(asked(*query), 10)
            assert set(rows[0][: len(expected)]) == expected, mode
            assert not set(rows[0]) & set(query)
    assert model.n_bytes > 0


def test_gensims_defaults_take_part(sets):
    peer = next(one for one in list_peers() if one.name == "gensim defaults")
    rows, _ = peer.fit(sets, {"shuffled": True}).ranker({"by": "cosine"}).rank(asked(3), 10)
    assert len(set(rows[0]) - {-1, 3}) == 10


def test_nobody_tries_more_than_the_budget():
    for peer in list_peers():
        assert set(peer.settings) == set(peer.modes) == {ITEM, CART}
        assert all(1 <= len(tried) <= MAX_SETTINGS for tried in peer.settings.values())
    with pytest.raises(ValueError, match="9 settings, at most 8"):
        Peer(
            "greedy",
            lambda data, setting: None,
            for_both_tasks([{"x": i} for i in range(9)]),
            for_both_tasks([{}]),
        )


def test_a_large_basket_counts_less_the_larger_the_exponent():
    data = data_of((0, 1), (0, 1, 2, 3, 4), n_items=5)
    plain, n_orders = counting.count_together(data)
    weighted, _ = counting.count_together(data, exponent=0.5)
    assert plain.toarray()[0].tolist() == [0, 2, 1, 1, 1]
    assert weighted.toarray()[0].tolist() == [0, 1.5, 0.5, 0.5, 0.5]
    assert n_orders.tolist() == [2, 2, 1, 1, 1]


def test_chance_takes_the_bestseller_off():
    """Product 0 is in most baskets, 2 only with product 1."""
    baskets = [
        [0, 1, 7, 8], [0, 1, 9, 10], [1, 2, 5, 6], [0, 3, 5, 7], [0, 4, 6, 8],
        [0, 5, 6, 9], [0, 3, 4, 9],
    ]  # fmt: skip
    data = data_of(*baskets, n_items=11)
    for peer, best in ((counting.cooccurrence(), 0), (counting.counts_minus_chance(), 2)):
        model = peer.fit(data, peer.settings[ITEM][0])
        assert model.ranker({"fuse": "sum"}).rank(asked(1), 1)[0].tolist() == [[best]]


def test_lift_shows_neither_bestsellers_nor_coincidences():
    """Product 0 is in every second basket of product 1, 2 in every third, 3 in one."""
    baskets = 3 * [(0, 1)] + 2 * [(1, 2)] + [(1, 3)] + 6 * [(0, 4)]
    data = data_of(*baskets, n_items=5)
    for by in ("lift", "confidence"):
        model = counting.lift().fit(data, {"by": by, "floor": 2})
        rows, scores = model.ranker({"fuse": "sum"}).rank(asked(1), 4)
        assert rows[0, 0] == 2
        assert scores[0, 0] == pytest.approx(2 if by == "lift" else 1 / 3)
        assert not scores[0, 1:].any()


@pytest.mark.parametrize(("beta", "best"), [(0.0, 0), (0.5, 2)])
def test_rp3beta_takes_popularity_off(beta, best):
    """Product 0 is in nine baskets, three of them with product 1; product 2 in two, all with it."""
    data = data_of(*3 * [(0, 1)], *2 * [(1, 2)], *6 * [(0, 3)], n_items=4)
    model = random_walk.rp3beta().fit(data, {"alpha": 1.0, "beta": beta})
    rows, scores = model.ranker({"fuse": "sum"}).rank(asked(1), 1)
    assert rows.tolist() == [[best]]
    expected = 3 / 5 if best == 0 else 2 / 5 / 2**0.5
    assert scores[0, 0] == pytest.approx(expected)


def test_vsknn_asks_the_nearest_baskets_alone():
    """Product 2 is often with 0 or with 1, product 3 only with both."""
    data = data_of(*5 * [(0, 2)], *5 * [(1, 2)], *2 * [(0, 1, 3)], (4, 5), n_items=6)
    for k, best in ((2, 3), (12, 2)):
        model = session_knn.vsknn().fit(data, {"k": k, "size": 0.0})
        assert model.ranker({"idf": 0.0}).rank(asked(0, 1), 1)[0].tolist() == [[best]]


def test_slim_explains_away_what_a_nearer_product_explains():
    """Product 2 goes with 1, with 0 only where 1 is; 3 goes with 0 less often, whatever else."""
    baskets = 20 * [(0, 1, 2)] + 20 * [(0, 1)] + 40 * [(1, 2)] + 10 * [(0, 3)] + 30 * [(3, 4)]
    model = slim.slim().fit(data_of(*baskets, n_items=5), {"l1": 0.0, "l2": 0.1})
    rows, scores = model.ranker({"fuse": "sum"}).rank(asked(0), 4)
    assert rows[0].tolist() == [1, 3, 2, 4]
    assert scores[0, 2:].tolist() == pytest.approx([0, 0], abs=0.01)


def test_slim_weighs_products_that_are_bought_by_few(monkeypatch):
    """Only the three most bought predict, the last set is predicted all the same."""
    monkeypatch.setattr(slim, "MOST_PREDICTORS", 3)
    baskets = 9 * [(0, 1)] + 9 * [(0, 2)] + 4 * [(2, 4)] + 2 * [(1, 3)]
    model = slim.slim().fit(data_of(*baskets, n_items=5), {"l1": 0.0, "l2": 1.0})
    rank = model.ranker({"fuse": "sum"}).rank
    assert rank(asked(1), 2)[0].tolist() == [[0, 3]]
    assert rank(asked(4), 1)[1].tolist() == [[0]]


@pytest.mark.parametrize(("fuse", "best"), [("sum", 2), ("max", 3)])
def test_a_cart_is_heard_together_or_by_its_loudest(fuse, best):
    """Products 0 and 1 both say a little for 2, only product 0 says more for 3."""
    from scipy.sparse import csr_array

    said = csr_array(([0.4, 0.6, 0.4], ([0, 0, 1], [2, 3, 2])), shape=(5, 5))
    rows, scores = ItemItemMatrix(said).ranker({"fuse": fuse}).rank(asked(0, 1), 4)
    assert rows[0, 0] == best
    assert scores[0, 0] == pytest.approx(0.8 if fuse == "sum" else 0.6)
    # Of 4 nothing is said; it comes last, and nothing is left for the fourth place.
    assert rows[0, 2:].tolist() == [4, -1]


@pytest.fixture(scope="module")
def mined():
    """Tea (0) goes with milk (1), but tea and lemon (2) with honey (3); 4 is a bestseller."""
    baskets = 60 * [(0, 1)] + 30 * [(0, 2, 3)] + 20 * [(2, 4)] + 90 * [(4, 5)]
    return rules.rules().fit(data_of(*baskets, n_items=6), {"min_support": 0.05})


def test_a_rule_answers_when_its_left_side_is_in_the_cart(mined):
    ranker = mined.ranker({"order": "confidence", "min_confidence": 0.0})
    assert ranker.rank(asked(0), 1)[0].tolist() == [[1]]
    assert ranker.rank(asked(0, 2), 1)[0].tolist() == [[3]]
    assert ranker.rank(asked(0, 2), 1)[1][0, 0] == pytest.approx(1.0)


def test_without_rules_the_bestsellers_answer(mined):
    none = mined.ranker({"order": "lift", "min_confidence": 1.1})
    rows, _ = none.rank(asked(2), 3)
    assert rows.tolist() == [[0, 1, 3]]  # rows stand in the order of popularity


def scripted(settings, max_train_cpu_s=float("inf")):
    """A peer whose setting says of which product it dreams; trainings are remembered."""
    tried = []

    def fit(data, setting):
        from scipy.sparse import csr_array

        tried.append(setting["says"])
        said = np.zeros((data.n_items, data.n_items), np.float32)
        said[:, setting["says"]] = 1
        return ItemItemMatrix(csr_array(said))

    modes = for_both_tasks([{"fuse": "sum"}])
    return Peer("scripted", fit, settings, modes, max_train_cpu_s=max_train_cpu_s), tried


def tune_alike(peer, data, queries):
    """Choices by NDCG, where chance is even."""
    chosen = tune(peer, data, queries, np.full(data.n_items, 1 / data.n_items))
    return {task: by[NDCG] for task, by in chosen.items()}


def test_the_best_on_validation_is_chosen_for_each_task(sets):
    queries = {
        ITEM: draw_queries(corpus_of((0, 5), (5, 0)), ITEM, 10, 0),
        CART: draw_queries(corpus_of(*10 * [(1, 2, 7)]), CART, 10, 0),
    }
    peer, tried = scripted({ITEM: [{"says": 9}, {"says": 5}], CART: [{"says": 5}, {"says": 7}]})
    tuned = tune_alike(peer, sets, queries)
    assert (tuned[ITEM].setting, tuned[CART].setting) == ({"says": 5}, {"says": 7})
    assert tried == [9, 5, 7]  # what both tasks try is trained once
    assert (tuned[ITEM].n_tried, tuned[CART].n_tried) == (2, 2)


@pytest.fixture
def bestseller_or_companion():
    """Beside product 3, four baskets have the bestseller 0, one has product 9."""
    relevant = corpus_of((0,), (0,), (0,), (0,), (9,))
    return Queries(5 * asked(3), relevant, np.arange(5)), np.eye(1, 24)[0] * 0.9


def test_each_measure_chooses_its_own_of_the_same_models(sets, bestseller_or_companion):
    queries, shares = bestseller_or_companion
    peer, tried = scripted({ITEM: [{"says": 0}, {"says": 9}], CART: []})
    chosen = tune(peer, sets, {ITEM: queries}, shares)[ITEM]
    assert (chosen[NDCG].setting, chosen[EXCESS].setting) == ({"says": 0}, {"says": 9})
    assert tried == [0, 9]
    assert chosen[EXCESS].scores[EXCESS] > 0 > chosen[NDCG].scores[EXCESS]


@pytest.mark.parametrize(
    ("says", "methods", "trained"),
    [
        ([0, 9], ["scripted", "scripted (by excess)"], [0, 9, 0, 9]),
        ([9], ["scripted"], [9, 9]),
    ],
)
def test_a_peer_has_a_second_row_where_excess_chooses_otherwise(
    sets, bestseller_or_companion, says, methods, trained
):
    queries, shares = bestseller_or_companion
    of_task, facts = {ITEM: queries}, CatalogueFacts(shares)
    data = quality.EvaluationData(sets, sets, of_task, of_task, shares, facts)
    peer, tried = scripted({ITEM: [{"says": one} for one in says], CART: []})
    found = quality.run_peer(peer, data)[ITEM]
    assert [one.method for one in found] == methods
    assert [one.found[0, 0] for one in found] == says[: len(methods)]
    assert tried == trained


def test_dearer_settings_are_left_when_patience_ends(sets, capsys):
    queries = {ITEM: draw_queries(corpus_of((0, 5)), ITEM, 10, 0)}
    peer, tried = scripted(for_both_tasks([{"says": 9}, {"says": 5}]), max_train_cpu_s=-1)
    assert tune_alike(peer, sets, queries)[ITEM].setting == {"says": 9}
    assert tried == [9]
    assert "costlier settings are skipped" in capsys.readouterr().out


def test_a_training_that_fails_is_said_and_left_out(sets, capsys):
    queries = {ITEM: draw_queries(corpus_of((0, 5)), ITEM, 10, 0)}
    peer, _ = scripted(for_both_tasks([{"says": -99}, {"says": 5}]))
    tuned = tune_alike(peer, sets, queries)[ITEM]
    assert (tuned.setting, tuned.n_tried) == ({"says": 5}, 1)
    assert "{'says': -99} failed (IndexError" in capsys.readouterr().out
    nothing, _ = scripted(for_both_tasks([{"says": -99}]))
    assert tune_alike(nothing, sets, queries) == {}


def test_after_a_failure_nothing_dearer_is_tried(sets, capsys):
    queries = {ITEM: draw_queries(corpus_of((0, 5)), ITEM, 10, 0)}
    settings = for_both_tasks([{"says": 9}, {"says": -99}, {"says": 5}])
    peer, tried = scripted(settings, max_train_cpu_s=1e9)
    assert tune_alike(peer, sets, queries)[ITEM].setting == {"says": 9}
    assert tried == [9, -99]


def test_a_process_that_takes_too_long_is_ended():
    with pytest.raises(TimeoutError, match="killed after 0 CPU s"):
        run_with_cpu_limit(python_command("while True: pass"), 0.2, {})
    with pytest.raises(RuntimeError, match="ended with code 3"):
        run_with_cpu_limit(python_command("import sys; sys.exit(3)"), 60, {})
    run_with_cpu_limit(
        python_command("import os; assert os.environ['GIVEN'] == 'this'"), 60, {"GIVEN": "this"}
    )


def answers(method, rows, ours=False):
    return quality.MethodResult(method, ours, np.array(rows), 1.0, 8, {})


def test_the_best_peer_is_who_is_best_on_the_test_split():
    queries = draw_queries(corpus_of(*40 * [(0, 1)]), ITEM, 40, 0)
    right = [[1 - query[0], 2] for query in queries.asked]
    second = [[2, 1 - query[0]] for query in queries.asked]
    wrong = [[3, 2]] * 40
    rows = quality.compute_rows(
        ITEM,
        [
            answers(WHOLE, right, ours=True),
            answers("co-occurrence", wrong),
            answers("co-occurrence, tuned", wrong),
            answers("better", second),
        ],
        queries,
        CatalogueFacts(np.array([0.5, 0.5, 0, 0]), kinds=np.array([0, 1, 0, 1])),
    )
    assert [row["method"] for row in rows] == [WHOLE, "better", *quality.COVERAGE_OF.values()]
    assert rows[0]["ndcg"] == rows[0]["hr"] == rows[0]["recall"] == rows[0]["mrr"] == 1
    lost = 1 - 1 / np.log2(3)
    assert [rows[1]["diff"], rows[1]["diff_low"]] == pytest.approx([lost, lost])
    assert rows[0]["diff"] is None
    figures = quality.compute_figures(ITEM, rows)
    assert figures["task_a_vs_best_peer"] == pytest.approx(1 / (1 - lost))
    assert figures["task_a_diff_low"] == pytest.approx(lost)
    assert figures["coverage_vs_cooccurrence"] == pytest.approx(3 / 2)
    # One line of two is the product by chance with probability 1/2, whoever ranks it where.
    assert rows[0]["excess"] == pytest.approx(1 / 2)
    assert figures["task_a_excess_vs_best_peer"] == pytest.approx(
        0.5 / (1 / np.log2(3) - 0.5 / np.log2(3))
    )
    assert figures["task_a_excess_diff_low"] > 0
    assert figures["task_a_bestsellers_at_5"] == 1  # of four products, all are among the ten best
    # Product 0 gets 1 and 2, which are two kinds; product 1 gets 0 and 2, which are one.
    n_kinds = [2 - query[0] for query in queries.asked]
    assert figures["task_a_kinds_at_5"] == pytest.approx(np.mean(n_kinds))
    assert "fbt ahead by" in quality.format_rows(rows)


def write_baskets(folder: Path, by_split) -> Path:
    rows = [
        {"order_id": f"{split}{i}", "items": list(items), "weight": 1.0, "split": split}
        for split, baskets in by_split.items()
        for i, items in enumerate(baskets)
    ]
    write_table(pa.Table.from_pylist(rows, pa.schema(list(BASKETS))), BASKETS, folder)
    return folder


def pairs_of(n):
    return [(f"left {i}", f"right {i}") for i in range(n)]


@pytest.mark.parametrize(
    ("by_split", "found"),
    [
        pytest.param(
            {split: 9 * [("tea", "milk", "jam")] for split in ("train", "validation", "test")},
            "3 products have at least 5 training orders.*expected more than 10",
            id="catalogue of 3",
        ),
        pytest.param(
            {"train": 9 * pairs_of(9), "validation": pairs_of(9), "test": [("new", "newer")]},
            "none of the 1 test baskets has two of the 18 products",
            id="nothing to ask in the test split",
        ),
        pytest.param(
            {"train": 9 * pairs_of(9), "validation": [("new", "left 1")], "test": pairs_of(9)},
            "none of the 1 validation baskets has two of the 18 products",
            id="nothing to tune by",
        ),
    ],
)
def test_data_that_allow_no_comparison_are_refused(tmp_path, by_split, found):
    with pytest.raises(ValueError, match=found):
        quality.read_evaluation_data(write_baskets(tmp_path / "baskets", by_split))


def test_without_carts_only_pages_are_compared(tmp_path, capsys):
    by_split = {"train": 9 * pairs_of(9), "validation": pairs_of(9), "test": pairs_of(9)}
    asked = quality.read_evaluation_data(write_baskets(tmp_path / "baskets", by_split))
    assert list(asked.test) == list(asked.validation) == [ITEM]
    assert f"{CART} is left out: no test basket has 3 products" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["quality"], "--orders is missing"),
        (["baskets", "--orders", "x.csv"], "bench baskets: it has no option --orders"),
        (["speed"], "'speed' is unknown, expected one of demo, baskets, online, quality"),
        (["quality", "--orders", "{orders}", "--chart", "x.pdf"], "expected .svg or .png"),
        (["quality", "--orders", "{orders}", "--columns", "product=sku"], "'product' is unknown"),
        (
            ["quality", "--orders", "{orders}", "--columns", "order_id=Invoice,product_id=thing"],
            "order_id=Invoice fits neither orders nor products",
        ),
        (["quality", "--orders", "{orders}.gone"], "gone"),
        (["quality", "--orders", "{orders}", "--json", "{folder}"], "is a folder"),
        (["quality", "--orders", "{orders}"], "a column for product_id is missing"),
    ],
)
def test_what_cannot_be_measured_is_said_in_a_line(arguments, said, tmp_path, monkeypatch, capfd):
    orders = tmp_path / "orders.csv"
    orders.write_text("order_id,thing\n1,a\n")
    monkeypatch.setenv("FBT_HOME", str(tmp_path / "home"))
    with pytest.raises(SystemExit) as ended:
        main(["bench", *(one.format(orders=orders, folder=tmp_path) for one in arguments)])
    assert ended.value.code == 1
    found = capfd.readouterr().err
    assert said in found
    assert "Traceback" not in found


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """Everybody on sets of three, with carts of two sets and some noise."""
    folder = tmp_path_factory.mktemp("quality")
    rng = np.random.default_rng(0)

    def drawn(n):
        for _ in range(n):
            chosen = rng.choice(N_SETS, 1 + rng.integers(2), replace=False)
            items = {f"{one} of set {i}" for i in chosen for one in "abc"}
            yield sorted(items | {f"noise {rng.integers(6)}"})

    by_split = {
        "train": list(drawn(400)),
        "validation": list(drawn(60)),
        "test": list(drawn(60)),
    }
    baskets = write_baskets(folder / "baskets", by_split)
    write_table(PRODUCTS.empty_table(), PRODUCTS, folder / "products")
    counts = {"baskets_train": 400, "first_order": "", "last_order": ""}
    write_json(counts, folder / "counts.json")
    (folder / "ours").mkdir()
    inputs = Inputs(
        baskets, folder / "products", folder / "counts.json", folder / "ours", 5, seed=0
    )
    # One training each: association rules take Spark seconds.
    peers = [
        replace(peer, settings={task: tried[:1] for task, tried in peer.settings.items()})
        for peer in list_peers()
    ]
    return quality.compare(inputs, peers)


def test_everybody_is_compared_in_both_tasks(compared):
    _, rows = compared
    peers = {peer.name for peer in list_peers()}
    for task in (ITEM, CART):
        mine = {row["method"] for row in rows if row["task"] == task and row["ours"]}
        others = {row["method"] for row in rows if row["task"] == task} - mine
        assert {one.removesuffix(" (by excess)") for one in others} == peers
        assert WHOLE in mine
        assert f"{WHOLE}: co-occurrence" in mine
    for row in rows:
        assert row["ndcg_low"] <= row["ndcg"] <= row["ndcg_high"]
        assert row["train_cpu_s"] >= 0
        assert row["bytes"] > 0


def test_who_learns_beats_the_bestsellers(compared):
    _, rows = compared
    ndcg = {(row["task"], row["method"]): row["ndcg"] for row in rows}
    for name in (WHOLE, "co-occurrence", "cosine", "EASE", "ItemKNN tf-idf", "association rules"):
        for task in (ITEM, CART):
            assert ndcg[task, name] > 1.5 * ndcg[task, "popularity"], (task, name)


def test_the_figures_are_those_that_issues_name(compared):
    figures, _ = compared
    assert figures.keys() >= {
        "task_a_vs_best_peer", "task_a_diff_low", "task_b_vs_best_peer", "task_b_diff_low",
        "task_a_excess_vs_best_peer", "task_a_excess_diff_low", "task_b_excess_vs_best_peer",
        "task_b_excess_diff_low", "task_a_bestsellers_at_5",
        "coverage_vs_cooccurrence", "train_cpu_vs_als", "item2vec_cpu_s", "ann_recall",
    }  # fmt: skip
    assert all(np.isfinite(value) for value in figures.values())
    assert figures["ann_recall"] == 1  # so few products are searched exactly


@pytest.mark.parametrize(("name", "starts"), [("c.svg", b"<?xml"), ("c.png", b"\x89PNG")])
def test_the_chart_is_drawn_as_its_name_says(compared, tmp_path, name, starts):
    quality_chart.draw(compared[1], tmp_path / name)
    content = (tmp_path / name).read_bytes()
    assert content.startswith(starts)
    if name.endswith("svg"):
        assert all(method in content.decode() for method in (WHOLE, "EASE", "association rules"))


def test_a_bench_that_is_unknown_is_refused():
    with pytest.raises(ValueError, match="unknown"):
        run_bench("speed", None, {})
