"""Where events go, by the settings."""

from bento.http.private_parts import find_bentoml_home
from bento.settings import Settings, SettingsError
from components.events.open import open_sink
from components.events.sink import SinkUnavailable

EVENTS_FILE = "events.db"


def find_events_url(settings: Settings) -> str | None:
    """None where events are switched off."""
    if settings.events_url is not None:
        url = settings.events_url.get_secret_value()
        return None if url == "off" else url
    database = settings.database_url.get_secret_value() if settings.database_url else ""
    if database.partition(":")[0] in ("postgres", "postgresql"):
        return database
    return f"sqlite:///{find_bentoml_home() / EVENTS_FILE}"


def verify_events_url(settings: Settings) -> None:
    """Make the tables. A store that is down may come back. Raises SettingsError for a bad URL."""
    if (url := find_events_url(settings)) is None:
        return
    try:
        open_sink(url).close()
    except ValueError as error:
        raise SettingsError(f"FBT_EVENTS_URL: {error}") from None
    except SinkUnavailable:
        return
