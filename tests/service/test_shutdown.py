"""SIGTERM, as the kubelet sends it: whoever was let in is answered."""

import json
import signal
import socket
import time
from urllib.parse import urlsplit

import pytest

from components.package.server import GRACE_S, serve_bundle
from tests.factories import make_bundle

BODY = json.dumps({"items": ["tea"], "k": 1}).encode()
HEAD = (
    b"POST /recommend HTTP/1.1\r\nHost: fbt\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(BODY)
)
N_CLIENTS = 8


@pytest.fixture
def server(tmp_path):
    with serve_bundle(make_bundle(tmp_path / "bundle")) as server:
        yield server


def test_requests_in_flight_are_answered_and_then_the_server_ends(server):
    address = urlsplit(server.url)
    clients = [
        socket.create_connection((address.hostname, address.port), timeout=20)
        for _ in range(N_CLIENTS)
    ]
    for client in clients:
        client.sendall(HEAD + BODY[:5])
    time.sleep(0.5)  # all are being read by the worker
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    for client in clients:
        client.sendall(BODY[5:])
    answers = [everything(client) for client in clients]
    assert [answer.split(b"\r\n")[0] for answer in answers] == [b"HTTP/1.1 200 OK"] * N_CLIENTS
    assert all(b'"milk"' in answer for answer in answers)
    server.process.wait(timeout=GRACE_S + 10)


def everything(client):
    received = b""
    while piece := client.recv(65536):
        received += piece
    return received
