"""`fbt events`, and compaction from Kafka and to an S3 server."""

import contextlib
import json
import time

import boto3
import pytest
from moto.server import ThreadedMotoServer

from components.contracts import EVENTS, RECOMMENDATIONS, read_table
from components.events.archive import Archive
from components.events.compact import compact, erase_session, remove_before
from components.events.event import Event, EventItem
from components.events.open import open_sink
from components.events.recommendation import Recommendation
from pipelines.cli import main
from pipelines.events import open_parquet

DAY_US = 86_400_000_000
NOW_US = time.time_ns() // 1000
YESTERDAY_US = NOW_US - DAY_US


def make_event(name, session="anna", ts_us=YESTERDAY_US):
    items = (EventItem("milk", 0), EventItem("tea", 1))
    return Event(name, "view_item_list", ts_us, ts_us, session, "r", None, items)


def make_block(*sessions):
    return json.dumps(
        [
            Recommendation(
                f"r-{one}", YESTERDAY_US, one, "recommend", "cart", "1", "a", None, 1.0,
                ["milk"], ["tea"], ["s"], [],
            )
            for one in sessions
        ]
    ).encode()  # fmt: skip


@pytest.fixture
def own_home(home, monkeypatch):
    monkeypatch.setenv("FBT_HOME", str(home.root))
    return home


@pytest.fixture
def filled(own_home):
    """The default store of a home, with three events and two recommendations."""
    with contextlib.closing(open_sink(f"sqlite:///{own_home.root}/events.db")) as sink:
        sink.write_events([make_event("1"), make_event("2", "bob"), make_event("3")])
        sink.write_recommendations(make_block("anna", "bob"), 2)
        yield sink


def run(capsys, *arguments):
    main(["events", *arguments])
    return capsys.readouterr().out


def test_events_become_parquet_and_leave_it(filled, own_home, capsys):
    assert "5 records wait" in run(capsys, "status")
    assert run(capsys, "compact") == "3 events and 2 recommendations are in Parquet\n"
    text = run(capsys, "status")
    assert "0 records wait" in text
    assert text.splitlines()[-1].split()[1:] == ["6", "2"]
    assert len(read_table(own_home.root / "online" / "events", EVENTS)) == 6
    assert "3 records in the store, 5 rows of Parquet" in run(capsys, "erase", "anna")
    assert "0 records in the store, 0 rows" in run(capsys, "remove", "--older-than-days", "30")
    assert "2 records in the store, 3 rows" in run(capsys, "remove", "--older-than-days", "0")


def test_a_compacted_event_is_known_again_for_some_days(filled, capsys):
    old = make_event("old", ts_us=NOW_US - 9 * DAY_US)
    filled.write_events([old])
    run(capsys, "compact")
    assert [one.event_id for one in filled.read().events] == ["1", "2", "3"]
    assert "2 small files were merged" not in run(capsys, "compact", "--keep-days", "1")


def test_the_place_of_events_comes_from_the_environment(own_home, tmp_path, capsys, monkeypatch):
    open_sink(f"sqlite:///{tmp_path}/other.db").close()
    monkeypatch.setenv("FBT_EVENTS_URL", f"sqlite:///{tmp_path}/other.db")
    assert "other.db: 0 records wait" in run(capsys, "status")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["status"], "nothing found at"),
        (["compact", "--keep-days", "0"], "nothing found at"),
        (["compact", "--url", "mysql://a:b@c/d"], "expected sqlite:///FILE"),
        (["compact", "--url", "kafka://127.0.0.1:1/shop"], "127.0.0.1:1"),
    ],
)
def test_errors_are_explained(own_home, arguments, error, capsys, monkeypatch):
    monkeypatch.setattr("components.compaction.compact.TIMEOUT_S", 1)
    with pytest.raises(SystemExit) as ended:
        main(["events", *arguments])
    assert ended.value.code == 1
    assert error in capsys.readouterr().err


def test_spark_takes_kafka_alone(filled, capsys):
    with pytest.raises(SystemExit):
        main(["events", "compact", "--spark"])
    assert "no Kafka" in capsys.readouterr().err


def test_what_is_being_written_is_never_removed(filled, capsys):
    with pytest.raises(SystemExit):
        main(["events", "compact", "--keep-days", "0.5"])
    assert "expected at least 1" in capsys.readouterr().err


@pytest.fixture(params=["sqlite", "postgresql", "kafka"])
def sink(request, tmp_path):
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/events.db"
    elif request.param == "kafka":
        url = request.getfixturevalue("kafka_broker").url()
    else:
        url = request.getfixturevalue("postgres_server").new_database()
    with contextlib.closing(open_sink(url)) as made:
        yield made


def test_every_store_is_compacted_once(sink, tmp_path):
    archive = Archive(str(tmp_path / "online"))
    names = [f"{n:04d}" for n in range(500)]
    for start in range(0, 500, 50):
        sink.write_events([make_event(name, f"s{name[-1]}") for name in names[start : start + 50]])
    sink.write_recommendations(make_block("anna", "bob"), 2)
    assert compact(sink, archive)[:2] == (500, 2)
    again = [make_event(name) for name in names[::7]]
    sink.write_events([*again, make_event("new")])
    assert compact(sink, archive)[:2] == (1, 0)
    assert compact(sink, archive)[:2] == (0, 0)
    ids = read_table(f"{archive.root}/events", EVENTS).column("event_id").to_pylist()
    assert sorted(ids) == sorted([*names, "new"] * 2)


def test_a_session_that_was_erased_before_compaction_never_comes(sink, tmp_path):
    archive = Archive(str(tmp_path / "online"))
    sink.write_events([make_event("1"), make_event("2", "bob")])
    sink.write_recommendations(make_block("anna", "bob"), 2)
    sink.erase_session("anna")
    assert compact(sink, archive)[:2] == (1, 1)
    assert erase_session(archive, "anna") == 0


@pytest.fixture
def s3(monkeypatch):
    """A bucket `events` in an S3 server."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    for name, value in {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="events")
    yield client
    server.stop()


def test_parquet_may_lie_in_an_object_store(filled, own_home, s3, tmp_path):
    archive = open_parquet("s3://events/online/of fbt", own_home)
    assert compact(filled, archive)[:2] == (3, 2)
    filled.write_events([make_event("4", "bob")])
    assert compact(filled, archive)[:2] == (1, 0)
    assert compact(filled, open_parquet("s3://events/online/of fbt", own_home))[:2] == (0, 0)
    keys = [one["Key"] for one in s3.list_objects_v2(Bucket="events")["Contents"]]
    assert len([key for key in keys if key.endswith(".parquet")]) == 3
    assert not [key for key in keys if "staging" in key and key.endswith(".parquet")]
    assert erase_session(archive, "anna") == 5
    (file,) = [one for one in archive.files(EVENTS) if one.n_bytes][:1]
    assert set(archive.read(file.path, EVENTS).column("session_id").to_pylist()) == {"bob"}
    assert remove_before(archive, NOW_US) == 5
    assert archive.files(EVENTS) == archive.files(RECOMMENDATIONS) == []
