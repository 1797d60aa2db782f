"""A Kafka broker in KRaft mode on loopback, with a data folder of its own."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

import pytest

from tests.postgres import find_free_port

VERSION = "4.1.1"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fbt"
SETTINGS = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
log.dirs={folder}/data
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
auto.create.topics.enable=false
log.index.size.max.bytes=65536
log.initial.task.delay.ms=1000
log.retention.check.interval.ms=1000
group.initial.rebalance.delay.ms=0
"""
HEAP = "-Xmx512m"
FAST_START = "-XX:TieredStopAtLevel=1"
START_S = 180


class Kafka:
    """A broker that can be stopped, killed and started."""

    def __init__(self, jars, folder):
        self._classes, self._folder, self.port = f"{jars}/*", folder, find_free_port()
        self._process = None
        self._settings = folder / "server.properties"
        text = SETTINGS.format(port=self.port, controller=find_free_port(), folder=folder)
        self._settings.write_text(text)
        cluster = "AAAAAAAAAAAAAAAAAAAAAA"
        tool = ("kafka.tools.StorageTool", "format", "--cluster-id", cluster)
        command = self._java(FAST_START, *tool, "--config", self._settings)
        subprocess.run(command, check=True, timeout=START_S, capture_output=True)

    @property
    def brokers(self):
        return f"127.0.0.1:{self.port}"

    def url(self, prefix=""):
        """With topics of its own, unless they are named."""
        return f"kafka://{self.brokers}/{prefix or 'test-' + uuid.uuid4().hex[:8]}"

    @property
    def pid(self):
        return self._process.pid

    def start(self):
        with (self._folder / "log").open("a") as log:
            command = self._java("kafka.Kafka", self._settings)
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        end = time.monotonic() + START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError((self._folder / "log").read_text()[-3000:])
            time.sleep(0.1)

    def stop(self, how=signal.SIGTERM):
        self._process.send_signal(how)
        self._process.wait(timeout=START_S)

    def kill(self):
        self.stop(signal.SIGKILL)

    def _java(self, *arguments):
        return ["java", HEAP, "-XX:+UseSerialGC", "-cp", self._classes, *arguments]

    def _answers(self):
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            with contextlib.suppress(KafkaException):
                quiet = {"bootstrap.servers": self.brokers, "log_level": 0}
                return bool(AdminClient(quiet).list_topics(timeout=1).brokers)
        return False


@contextlib.contextmanager
def kafka():
    """A broker that runs; skips the test where Java or the broker's jars cannot be had."""
    if shutil.which("java") is None:
        pytest.skip("no Java (Debian: openjdk-17-jre-headless)")
    jars = fetch_jars()
    folder = Path(tempfile.mkdtemp(prefix="fbt-kafka-"))
    try:
        broker = Kafka(jars, folder)
        broker.start()
        try:
            yield broker
        finally:
            broker.kill()
    finally:
        shutil.rmtree(folder)


def fetch_jars():
    """Of Maven Central, by the Ivy that Spark carries, once for all runs on this machine."""
    kept = CACHE / f"kafka-{VERSION}"
    if not kept.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as work:
            _download(Path(work))
            with contextlib.suppress(OSError):  # another run was faster
                (Path(work) / "jars").rename(kept)
    return kept


def _download(work):
    pyspark = pytest.importorskip("pyspark")
    ivy = Path(pyspark.__file__).parent / "jars" / "*"
    try:
        done = subprocess.run(
            [
                "java", "-cp", ivy, "org.apache.ivy.Main", "-confs", "default",
                "-types", "jar", "bundle", "-cache", work / "ivy",
                "-dependency", "org.apache.kafka", "kafka_2.13", VERSION,
                "-retrieve", f"{work}/jars/[artifact]-[revision].[ext]",
            ],
            capture_output=True, text=True, timeout=240,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        pytest.skip("Maven Central does not answer: no Kafka broker")
    if done.returncode or not list(work.glob(f"jars/kafka-server-{VERSION}.jar")):
        pytest.skip(f"no Kafka broker from Maven Central: {done.stdout[-300:]}")
