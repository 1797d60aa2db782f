"""The public key of event requests."""

import base64
import binascii
import hmac
import urllib.parse
from collections.abc import Mapping

from bento.http.errors import HttpError
from bento.http.limits import hash_token
from bento.schemas.problems import FieldError
from bento.settings import Settings

HEADER = b"x-fbt-key"
QUERY_NAMES = ("key", "api_secret")
"""The second is GA4's."""


class EventsKey:
    def __init__(self, settings: Settings) -> None:
        key = settings.events_key
        self._hash = hash_token(key.get_secret_value().encode()) if key is not None else None

    def check(self, headers: Mapping[bytes, bytes], query: bytes) -> None:
        """Raises HttpError (401)."""
        if self._hash is None:
            return
        given = find_key(headers, query)
        # Hashes have one length: the time of a comparison does not depend on it.
        if given is None or not hmac.compare_digest(hash_token(given), self._hash):
            error = FieldError(
                field="key",
                found="none" if given is None else "another key",
                expected="the service's FBT_EVENTS_KEY as header X-Fbt-Key, as `key` or "
                "`api_secret` in the query, or as the user of basic authentication",
            )
            # Not Basic: browsers would ask shoppers for a password.
            raise HttpError(401, error, headers={"www-authenticate": 'Key realm="fbt"'})


def find_key(headers: Mapping[bytes, bytes], query: bytes) -> bytes | None:
    if (given := headers.get(HEADER)) is not None:
        return given.strip()
    values = dict(urllib.parse.parse_qsl(query.decode("latin-1")))
    for name in QUERY_NAMES:
        if name in values:
            return values[name].encode()
    return find_basic_user(headers.get(b"authorization", b""))


def find_basic_user(header: bytes) -> bytes | None:
    """Segment's write key: a user without a password."""
    scheme, _, credentials = header.partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        return base64.b64decode(credentials.strip(), validate=True).partition(b":")[0]
    except binascii.Error:
        return None
