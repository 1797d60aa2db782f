"""A sink's records become Parquet by day: each once, whenever the process is killed."""

import json
import subprocess
import sys
import time
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.contracts import EVENTS, RECOMMENDATIONS, read_table
from components.events import compact as compaction
from components.events.archive import Archive, ArchiveBusy
from components.events.compact import compact, erase_session, remove_before
from components.events.event import Event, EventItem
from components.events.open import open_sink
from components.events.recommendation import Recommendation

MONDAY = datetime(2026, 11, 23, 12, tzinfo=UTC)
TODAY = date(2026, 11, 29)


def make_us(day=0, second=0):
    """Microseconds of noon, so many days and seconds after Monday's."""
    return int((MONDAY + timedelta(days=day, seconds=second)).timestamp()) * 1_000_000


def make_event(name, day=0, session="anna", products=("milk",), **changes):
    event = Event(
        event_id=name, event="add_to_cart", ts_us=make_us(day), received_us=make_us(day, 1),
        session_id=session, request_id="r", order_id=None,
        items=tuple(EventItem(one, n, 2.0, 0.5) for n, one in enumerate(products)),
    )  # fmt: skip
    return event._replace(**changes)


def make_recommendation(name, day=0, session="anna", **changes):
    record = Recommendation(
        request_id=name, ts_us=make_us(day), session_id=session, endpoint="recommend",
        context="cart", model_version="1", arm="default", experiment=None, share=0.5,
        asked=["milk"], items=["tea", "jam"], sources=["a", "b"], rules=[],
    )  # fmt: skip
    return record._replace(**changes)


def write_block(sink, *records):
    sink.write_recommendations(json.dumps(records).encode(), len(records))


@pytest.fixture
def sink(tmp_path):
    sink = open_sink(f"sqlite:///{tmp_path}/events.db")
    yield sink
    sink.close()


@pytest.fixture
def archive(tmp_path):
    return Archive(str(tmp_path / "online"))


def read_ids(archive):
    """Of all events, sorted, an id for each row."""
    if not archive.files(EVENTS):
        return []
    return sorted(read_table(f"{archive.root}/events", EVENTS).column("event_id").to_pylist())


def read_requests(archive):
    if not archive.files(RECOMMENDATIONS):
        return []
    table = read_table(f"{archive.root}/recommendations", RECOMMENDATIONS)
    return sorted(table.column("request_id").to_pylist())


def test_every_product_of_an_event_is_a_row(sink, archive):
    event = make_event("1", products=("milk", "tea"), event="purchase", order_id="o")
    sink.write_events([event])
    assert compact(sink, archive, TODAY).events == 1
    (milk, tea) = read_table(f"{archive.root}/events", EVENTS).to_pylist()
    assert milk == {
        "event_id": "1", "event": "purchase", "ts": MONDAY,
        "received_at": MONDAY + timedelta(seconds=1), "session_id": "anna", "request_id": "r",
        "order_id": "o", "product_id": "milk", "position": 0, "quantity": 2.0, "price": 0.5,
    }  # fmt: skip
    assert (tea["product_id"], tea["position"]) == ("tea", 1)


def test_every_recommendation_is_a_row(sink, archive):
    record = make_recommendation("r", teams=["a", ""], swapped=1, swap_drawn=True)
    write_block(sink, record, make_recommendation("s", session=None))
    assert compact(sink, archive, TODAY).recommendations == 2
    first, second = read_table(f"{archive.root}/recommendations", RECOMMENDATIONS).to_pylist()
    expected = record._asdict() | {"ts": MONDAY}
    del expected["ts_us"]
    assert first == expected
    assert (second["session_id"], second["teams"], second["swapped"]) == (None, None, None)


def test_days_are_those_of_the_event_in_utc(sink, archive):
    last = make_us() // 86_400_000_000 * 86_400_000_000 + 86_400_000_000 - 1
    sink.write_events([make_event("1", ts_us=last), make_event("2", ts_us=last + 1)])
    compact(sink, archive, TODAY)
    assert [file.day for file in archive.files(EVENTS)] == [date(2026, 11, 23), date(2026, 11, 24)]
    folders = [file.path.split("/")[:2] for file in archive.files(EVENTS)]
    assert folders == [["events", "day=2026-11-23"], ["events", "day=2026-11-24"]]


def test_a_second_compaction_takes_what_is_new(sink, archive):
    sink.write_events([make_event("1")])
    compact(sink, archive, TODAY)
    assert compact(sink, archive, TODAY)[:3] == (0, 0, 0)
    sink.write_events([make_event("1"), make_event("2")])
    write_block(sink, make_recommendation("r"))
    assert compact(sink, archive, TODAY)[:3] == (1, 1, 0)
    assert read_ids(archive) == ["1", "2"]
    assert read_requests(archive) == ["r"]


def test_more_than_one_step_takes_all(sink, archive, monkeypatch):
    monkeypatch.setattr(compaction, "N_RECORDS", 1)
    monkeypatch.setattr(type(sink), "read", read_by_three(type(sink).read))
    names = [f"{n:02d}" for n in range(10)]
    sink.write_events([make_event(name) for name in names])
    write_block(sink, *[make_recommendation(name) for name in names])
    assert compact(sink, archive, MONDAY.date())[:2] == (10, 10)
    assert read_ids(archive) == names
    assert len(archive.files(EVENTS)) == 4


def read_by_three(read):
    return lambda self, position="", limit=3: read(self, position, limit)


def add_column_of_next_release(archive):
    (file,) = archive.files(EVENTS)
    path = f"{archive.root}/{file.path}"
    table = pq.read_table(path)
    pq.write_table(table.append_column("currency", pa.array(["EUR"] * table.num_rows)), path)


def test_columns_of_a_newer_release_outlive_a_merge_and_an_erasure(sink, archive):
    sink.write_events([make_event("1"), make_event("2", session="bob")])
    compact(sink, archive, MONDAY.date())
    add_column_of_next_release(archive)
    sink.write_events([make_event("3")])
    assert compact(sink, archive, TODAY).merged == 2
    erase_session(archive, "bob")
    (file,) = archive.files(EVENTS)
    rows = pq.read_table(f"{archive.root}/{file.path}").to_pylist()
    found = sorted((row["event_id"], row["currency"]) for row in rows)
    assert found == [("1", "EUR"), ("3", None)]
    assert read_ids(archive) == ["1", "3"]


def test_values_that_no_table_holds_are_left_out_and_counted(sink, archive):
    sink.write_events(
        [
            make_event("good"),
            make_event("far future", ts_us=2**62),
            make_event("surrogate", session="\ud800"),
            make_event("position", items=(EventItem("milk", 2**40),)),
            make_event("fine"),
        ]
    )
    write_block(sink, make_recommendation("r"), make_recommendation("s", items=[None], arm=None))
    assert compact(sink, archive, TODAY) == (2, 1, 0, 4, 0)
    assert read_ids(archive) == ["fine", "good"]


def test_a_store_that_was_made_anew_doubles_nothing(tmp_path, archive):
    """Its position is unknown: all is read again, and what Parquet has is left out."""
    for turn in range(2):
        sink = open_sink(f"sqlite:///{tmp_path}/events-{turn}.db")
        sink.write_events([make_event("1"), make_event("2", day=1), make_event(f"new {turn}")])
        write_block(sink, make_recommendation("r"))
        found = compact(sink, archive, TODAY)
        sink.close()
    assert found[:3] == (1, 0, 3)
    assert read_ids(archive) == ["1", "2", "new 0", "new 1"]
    assert read_requests(archive) == ["r"]


def test_a_repetition_by_a_corrected_clock_is_left_out(tmp_path, archive):
    midnight = make_us() // 86_400_000_000 * 86_400_000_000
    for turn in range(2):
        sink = open_sink(f"sqlite:///{tmp_path}/events-{turn}.db")
        sink.write_events([make_event("1", ts_us=midnight - turn)])
        compact(sink, archive, TODAY)
        sink.close()
    assert read_ids(archive) == ["1"]


def compact_pieces(sink, archive, n_pieces, today=TODAY):
    for n in range(n_pieces):
        sink.write_events([make_event(f"{n:02d}", session=f"s{n}")])
        compact(sink, archive, today)


def test_small_files_of_past_days_are_merged(sink, archive):
    compact_pieces(sink, archive, 5, date(2026, 11, 24))
    assert len(archive.files(EVENTS)) == 5, "more events of this day may come"
    assert compact(sink, archive, TODAY).merged == 5
    assert len(archive.files(EVENTS)) == 1
    assert read_ids(archive) == ["00", "01", "02", "03", "04"]
    assert compact(sink, archive, TODAY).merged == 0


def test_files_of_today_stay(sink, archive):
    compact_pieces(sink, archive, 12, date(2026, 11, 23))
    assert len(archive.files(EVENTS)) == 12
    assert compact(sink, archive, date(2026, 11, 24)).merged == 12


def test_an_erased_session_leaves_parquet(sink, archive):
    sink.write_events(
        [
            make_event("1", session="anna", products=("milk", "tea")),
            make_event("2", session="bob"),
            make_event("3", session="anna", day=1),
            make_event("4", session=None, day=1),
            make_event("5", session="bob", day=2),
        ]
    )
    write_block(sink, make_recommendation("r"), make_recommendation("s", session="bob"))
    compact(sink, archive, TODAY)
    untouched = archive.files(EVENTS)[-1]
    assert erase_session(archive, "anna") == 4
    assert read_ids(archive) == ["2", "4", "5"]
    assert read_requests(archive) == ["s"]
    assert archive.files(EVENTS)[-1] == untouched
    assert erase_session(archive, "anna") == 0
    sink.erase_session("anna")
    assert compact(sink, archive, TODAY)[:2] == (0, 0)
    assert read_ids(archive) == ["2", "4", "5"]


def test_old_days_leave_parquet(sink, archive):
    sink.write_events([make_event(str(day), day=day) for day in range(4)])
    sink.write_events([make_event("later", ts_us=make_us(2, 5))])
    write_block(sink, make_recommendation("r"), make_recommendation("s", day=3))
    compact(sink, archive, TODAY)
    assert remove_before(archive, make_us(2, 1)) == 4
    assert read_ids(archive) == ["3", "later"]
    assert read_requests(archive) == ["s"]


def test_one_compaction_at_a_time(sink, archive):
    with archive.writing(), pytest.raises(ArchiveBusy, match="another compaction"):
        compact(sink, Archive(archive.root), TODAY)


def test_a_compaction_that_was_overtaken_changes_nothing(sink, archive):
    """Object stores have no locks."""
    sink.write_events([make_event("1")])
    other = Archive(archive.root)
    with archive.writing():
        other._state = other._read_state()
        other.change([], [], "{}")
        with pytest.raises(ArchiveBusy, match="one at a time"):
            compaction._store(compaction._read_chunk(sink, archive.position), archive)
    assert read_ids(archive) == []


class Killed(BaseException):
    """The process is no more."""


class FailingSystem:
    """A file system whose process is killed before or after its nth change."""

    def __init__(self, system, at, is_after):
        self._system, self._at, self._is_after, self.n_changes = system, at, is_after, 0

    def __getattr__(self, name):
        method = getattr(self._system, name)
        changes = {"open_output_stream", "move", "delete_file", "create_dir", "delete_dir_contents"}
        return self._wrap(method) if name in changes else method

    def _wrap(self, method):
        def call(*arguments, **more):
            self.n_changes += 1
            is_last = self.n_changes == self._at
            if is_last and not self._is_after:
                raise Killed
            result = method(*arguments, **more)
            if is_last:
                raise Killed
            return result

        return call


def count_changes(archive, work):
    counting = archive.filesystem = FailingSystem(archive.filesystem, 0, False)
    work(archive)
    return counting.n_changes


def kill_everywhere(tmp_path, prepare, work):
    """Yields archives in whose `work` the process was killed, at each change of a file."""
    whole = Archive(str(tmp_path / "whole"))
    prepare(whole)
    n_changes = count_changes(whole, work)
    assert n_changes >= 5
    for at in range(1, n_changes + 1):
        for is_after in (False, True):
            archive = Archive(str(tmp_path / f"killed-{at}-{is_after}"))
            prepare(archive)
            system = archive.filesystem
            archive.filesystem = FailingSystem(system, at, is_after)
            with pytest.raises(Killed):
                work(archive)
            yield Archive(archive.root)


def test_a_killed_compaction_neither_loses_nor_doubles(sink, tmp_path):
    sink.write_events([make_event("1"), make_event("2", day=1), make_event("3", day=1)])
    write_block(sink, make_recommendation("r"), make_recommendation("s", day=1))

    def work(archive):
        compact(sink, archive, TODAY)

    for archive in kill_everywhere(tmp_path, lambda _: None, work):
        assert len(read_ids(archive)) == len(set(read_ids(archive)))
        compact(sink, archive, TODAY)
        assert read_ids(archive) == ["1", "2", "3"]
        assert read_requests(archive) == ["r", "s"]
        assert compact(sink, archive, TODAY)[:2] == (0, 0)


def test_a_killed_merge_neither_loses_nor_doubles(sink, tmp_path):
    sink.write_events([make_event("0")])

    def prepare(archive):
        for n in range(2):
            compact(sink, archive, date(2026, 11, 24))
            sink.write_events([make_event(f"{archive.root}/{n}")])

    for archive in kill_everywhere(tmp_path, prepare, lambda one: compact(sink, one, TODAY)):
        compact(sink, archive, TODAY)
        ids = read_ids(archive)
        assert len(ids) == len(set(ids))
        assert f"{archive.root}/1" in ids
        assert len([one for one in archive.files(EVENTS) if one.day < TODAY]) == 1


def test_a_killed_erasure_is_ended_by_the_next_one(sink, tmp_path):
    sessions = ("anna", "bob", "anna")
    sink.write_events([make_event(str(n), session=one) for n, one in enumerate(sessions)])
    sink.write_events([make_event("3", day=1)])

    def prepare(archive):
        compact(sink, archive, TODAY)

    for archive in kill_everywhere(tmp_path, prepare, lambda one: erase_session(one, "anna")):
        assert "1" in read_ids(archive)
        erase_session(archive, "anna")
        assert read_ids(archive) == ["1"]
        assert compact(sink, archive, TODAY)[:2] == (0, 0)


COMPACTING = """
import sys
from components.events.archive import Archive
from components.events.compact import compact
from components.events import compact as compaction
from components.events.open import open_sink

compaction.N_RECORDS = 200
print("ready", flush=True)
compact(open_sink(sys.argv[1]), Archive(sys.argv[2]))
"""


def test_a_compaction_killed_at_any_moment_neither_loses_nor_doubles(sink, tmp_path):
    archive = Archive(str(tmp_path / "online"))
    names = sorted(f"{n:05d}" for n in range(5000))
    sink.write_events([make_event(name, day=n % 3) for n, name in enumerate(names)])
    for delay_s in (0.1, 0.2, 0.3, 0.15, 0.25):
        with subprocess.Popen(
            [sys.executable, "-c", COMPACTING, sink.name, archive.root],
            stdout=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            process.stdout.readline()
            time.sleep(delay_s)
            process.kill()
    compact(sink, archive, TODAY)
    assert read_ids(archive) == names


def test_files_are_compressed_and_carry_their_schema(sink, archive):
    sink.write_events([make_event("1")])
    compact(sink, archive, TODAY)
    (file,) = archive.files(EVENTS)
    found = pq.read_metadata(f"{archive.root}/{file.path}")
    assert found.row_group(0).column(0).compression == "ZSTD"
    assert pq.read_schema(f"{archive.root}/{file.path}").names == EVENTS.names
