"""Python's own emitter (PyPI: socket.io-emitter), which publishes to the channel of each room."""

import socket
import subprocess
import tempfile

import pytest
import redis
import socketio
from socket_io_emitter import Emitter

from test_python_client import DEADLINE_S, Server


@pytest.fixture
def redis_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="roomcast-redis-") as directory:
        command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", directory]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            for line in process.stdout:
                if "Ready to accept" in line:
                    break
            else:
                raise RuntimeError("redis-server did not start")
            yield port
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def server(redis_port):
    server = Server(REDIS_URL=f"redis://127.0.0.1:{redis_port}", EMITTER_PREFIX="socket.io")
    yield server
    server.stop()


def test_what_it_publishes_arrives_once_in_each_room(server, redis_port):
    with socketio.SimpleClient() as ann, socketio.SimpleClient() as chat:
        ann.connect(server.url, transports=["websocket"])
        chat.connect(server.url, namespace="/chat", transports=["websocket"])
        for room in ("a", "b"):
            assert ann.call("join-room", {"roomName": room}, timeout=DEADLINE_S)["success"]
        io = Emitter({"client": redis.Redis(port=redis_port)})
        io.To("a").To("b").Emit("news", {"text": "Grüße", "list": [1, 2.5, None, True]})
        io.To("a").Emit("text", "as it is")
        io.Of("/chat").Emit("all", {"n": 1})
        io.Emit("end")

        def event(client, *names):
            while True:
                name, *arguments = client.receive(timeout=DEADLINE_S)
                if name in names:
                    return name, arguments

        news = {"text": "Grüße", "list": [1, 2.5, None, True], "offset": 1}
        names = ("news", "text", "all", "end")
        arrived = [event(ann, *names) for _ in range(4)]
        # The two rooms are numbered apart.
        assert arrived == [("news", [news]), ("news", [news]), ("text", ["as it is"]), ("end", [])]
        assert event(chat, *names) == ("all", [{"n": 1}])
