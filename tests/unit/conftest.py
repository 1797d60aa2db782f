"""One Spark for all tests of this folder: a step starts its own, which takes seconds."""

import pytest


@pytest.fixture(autouse=True, scope="session")
def shared_spark():
    """A session that a step stops only forgets what it has cached."""
    from pyspark.sql import SparkSession

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SparkSession, "stop", lambda session: session.catalog.clearCache())
        yield
    if session := SparkSession.getActiveSession():
        session.stop()
