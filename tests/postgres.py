"""A PostgreSQL of Debian's package on loopback, with a data folder of its own."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import uuid
from pathlib import Path

import psutil
import pytest


def find_free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Postgres:
    """A server that can be stopped and started. Everybody may enter, with any password."""

    def __init__(self, programs, folder, durable=False):
        self._programs, self._folder, self.port = programs, folder, find_free_port()
        self._fsync = int(durable)
        self._user = {}
        if os.geteuid() == 0:  # as root it refuses to run
            shutil.chown(folder, "postgres", "postgres")
            self._user = {"user": "postgres", "group": "postgres", "extra_groups": []}
        where = ("--pgdata", folder / "data")
        choices = ("--auth=trust", "--username=shop", "--encoding=UTF8", "--no-locale")
        self._run("initdb", *where, *choices, "--no-sync")
        self._control = ("pg_ctl", *where, "--wait")

    def start(self):
        settings = (
            f"-c listen_addresses=127.0.0.1 -c port={self.port} -c unix_socket_directories= "
            f"-c fsync={self._fsync}"
        )
        self._run(*self._control, "--log", self._folder / "log", "--options", settings, "start")

    def stop(self):
        self._run(*self._control, "--mode=immediate", "stop")

    @contextlib.contextmanager
    def frozen(self):
        """Nothing moves, though connections stay open."""
        family = [psutil.Process(self.pid), *psutil.Process(self.pid).children()]
        for process in family:
            process.suspend()
        try:
            yield
        finally:
            for process in family:
                process.resume()

    @property
    def pid(self):
        return int((self._folder / "data" / "postmaster.pid").read_text().split()[0])

    def sql(self, statements, database="postgres"):
        self._run("psql", "--set=ON_ERROR_STOP=1", self.url(database), input=statements, text=True)

    def new_database(self, password=None):
        """The URL of an empty database of the caller's own."""
        name = f"test_{uuid.uuid4().hex}"
        self.sql(f"create database {name}")
        return self.url(name, password)

    def url(self, database="postgres", password=None):
        user = f"shop:{password}" if password else "shop"
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def _run(self, program, *arguments, **more):
        subprocess.run(
            [self._programs / program, *arguments], cwd=self._folder, check=True, timeout=60,
            stdout=subprocess.DEVNULL, **self._user, **more,
        )  # fmt: skip


@contextlib.contextmanager
def postgres(durable=False):
    """A server that runs; skips the test where none is installed. It waits for the disk only if it
    is `durable`."""
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None, key=newest)
    if programs is None or not (programs / "initdb").exists():
        pytest.skip("no PostgreSQL server (Debian: postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="fbt-postgres-"))
    try:
        server = Postgres(programs, folder, durable)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


def newest(programs):
    return float(programs.parent.name)
