"""A sink by its URL."""

from pathlib import Path
from urllib.parse import urlsplit

from components.events.sink import Sink

EXPECTED = (
    "expected sqlite:///FILE, postgresql://USER:PASSWORD@HOST:PORT/NAME or "
    "kafka://HOST:PORT,HOST:PORT/PREFIX"
)


def open_sink(url: str, timeout_s: float = 5.0) -> Sink:
    """Makes its tables or topics where they are missing. `timeout_s` limits a write's wait for the
    store. Raises ValueError for another URL, which the message does not repeat, and
    SinkUnavailable.
    """
    scheme, _, rest = url.partition("://")
    scheme = scheme.partition("+")[0]  # as SQLAlchemy's URLs may name a driver
    if scheme == "sqlite" and len(rest) > 1 and rest[0] == "/" and rest != "/:memory:":
        from components.events.sinks.sqlite import SqliteSink

        return SqliteSink(Path(rest[1:]), timeout_s)
    if scheme in ("postgresql", "postgres") and _names_database(url):
        from components.events.sinks.postgres import PostgresSink

        return PostgresSink(url, timeout_s)
    if scheme == "kafka":
        from components.events.sinks.kafka import KafkaSink

        brokers, _, prefix = rest.partition("/")
        if brokers and prefix:
            return KafkaSink(brokers, prefix, timeout_s)
    raise ValueError(f"URL of events: found {scheme if rest else 'no'}://…, {EXPECTED}")


def _names_database(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname and parts.path.strip("/")) and parts.port != 0
    except ValueError:
        return False
