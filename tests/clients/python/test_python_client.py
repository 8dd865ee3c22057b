"""The same story as told by the other clients, in small, by python-socketio over polling and websocket."""

import json
import os
import queue
import signal
import subprocess
import tempfile
import threading
from pathlib import Path

import pytest
import socketio
from engineio.payload import Payload

DEADLINE_S = 10

# By default python-engineio gives up a polling connection when one response brings more than 16 packets, which
# any busy server, Node's among them, does. Its applications raise this limit.
Payload.max_decode_packets = 1000


class Server:
    """The real server on a free port, with an in-memory store."""

    def __init__(self, **settings):
        binary = os.environ.get("ROOMCAST_BIN")
        if not binary:
            raise RuntimeError(
                "ROOMCAST_BIN is not set: name the server to test, for example ROOMCAST_BIN=target/debug/roomcast"
            )
        self.directory = tempfile.TemporaryDirectory(prefix="roomcast-python-")
        # The environment of the test run is not inherited: a JWT_SECRET in it must not change the story.
        environment = {
            "PATH": os.environ["PATH"],
            "PORT": "0",
            "HOST": "127.0.0.1",
            "STORE_URL": "memory:",
            "LOG_FORMAT": "json",
            **settings,
        }
        self.process = subprocess.Popen(
            [Path(binary).resolve()],
            cwd=self.directory.name,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines = []
        ports = queue.Queue()
        threading.Thread(target=self._read, args=(ports,), daemon=True).start()
        try:
            self.url = f"http://127.0.0.1:{ports.get(timeout=DEADLINE_S)}"
        except queue.Empty:
            self.process.kill()
            raise RuntimeError("the server did not say that it listens:\n" + "".join(self.lines)) from None

    def _read(self, ports):
        for line in self.process.stdout:
            self.lines.append(line)
            try:
                entry = json.loads(line)
                # The fields stand in the entry itself, or in `fields`, as tracing has it unless told otherwise.
                fields = entry.get("fields", entry)
            except ValueError:
                continue  # A panic's text, say; it stays among the lines.
            if "listening" in fields.get("message", "") and "port" in fields:
                ports.put(fields["port"])

    def stop(self):
        """Asks it to stop, as an orchestrator does, and holds it to a clean exit."""
        self.process.send_signal(signal.SIGTERM)
        try:
            # Less than its grace of 10 s: the clients have gone, so there is nothing to wait for.
            code = self.process.wait(timeout=8)
        finally:
            self.process.kill()
            self.directory.cleanup()
        assert code == 0, "SIGTERM must end it cleanly:\n" + "".join(self.lines)


class Client:
    """A python-socketio client that records what arrives; waiting has a deadline, nothing sleeps."""

    def __init__(self, server, transports, name=None):
        self.io = socketio.Client(reconnection=False)
        self.arrived = {}
        self.lock = threading.Lock()
        self.io.on("*", self._record)
        # `message` is a name of python-socketio's own: the catch-all handler does not get it.
        self.io.on("message", lambda *arguments: self._record("message", *arguments))
        self.io.connect(
            server.url,
            transports=transports,
            auth={"clientName": name} if name else None,
            wait_timeout=DEADLINE_S,
        )

    def _queue(self, event):
        with self.lock:
            return self.arrived.setdefault(event, queue.Queue())

    def _record(self, event, *arguments):
        self._queue(event).put(arguments)

    def next(self, event):
        """The next event of that name; it carries exactly one argument."""
        try:
            arguments = self._queue(event).get(timeout=DEADLINE_S)
        except queue.Empty:
            raise AssertionError(f'"{event}" did not arrive; arrived: {sorted(self.arrived)}') from None
        assert len(arguments) == 1, f'"{event}" carried {len(arguments)} arguments'
        return arguments[0]

    def ask(self, event, payload):
        """Emits and waits for the acknowledgement."""
        return self.io.call(event, payload, timeout=DEADLINE_S)


def fields(actual, **expected):
    """Asserts that the object has these fields with these values; more are allowed."""
    assert {key: actual.get(key) for key in expected} == expected


def without_offset(message):
    """The object without the number that the server adds inside while history is on."""
    return {key: value for key, value in message.items() if key != "offset"}


@pytest.fixture
def server():
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def connect(server):
    clients = []

    def connect(transports, name=None):
        clients.append(Client(server, transports, name))
        return clients[-1]

    yield connect
    for client in clients:
        client.io.disconnect()


TRANSPORTS = {
    "polling": ["polling"],
    "websocket": ["websocket"],
    "upgrade": ["polling", "websocket"],
}


@pytest.mark.parametrize("transports", TRANSPORTS.values(), ids=TRANSPORTS.keys())
def test_two_clients_talk_in_a_room(connect, transports):
    ann = connect(transports, "Ann")
    assert ann.io.transport() == transports[-1]
    fields(ann.next("connected"), message="Connected to WebSocket server", clientId=ann.io.get_sid())
    fields(ann.next("client-connected"), clientId=ann.io.get_sid(), clientName="Ann", message="Client connected")

    ack = ann.ask("join-room", {"roomName": "kitchen"})
    fields(ack, clientId=ann.io.get_sid(), clientName="Ann", success=True, roomName="kitchen")
    fields(ann.next("room-joined"), success=True, message="Successfully joined room: kitchen")

    bob = connect(["websocket"], "Bob")
    assert bob.ask("join-room", "kitchen")["success"] is True
    fields(ann.next("user-joined"), socketId=bob.io.get_sid(), userId=None, clientName="Bob", room="kitchen")

    question = {"roomName": "kitchen", "message": "Is there coffee? ☕", "z": 1, "a": [None, 1.5, {}]}
    fields(ann.ask("message", question), success=True, roomName="kitchen")
    received = without_offset(bob.next("message-reply"))
    assert json.dumps(received) == json.dumps(question)

    answer = {"roomName": "kitchen", "message": "Freshly made."}
    assert bob.ask("message", answer)["success"] is True
    # The first message that Ann hears is Bob's: her own did not come back to her.
    assert without_offset(ann.next("message-reply")) == answer

    bob_id = bob.io.get_sid()
    bob.io.disconnect()
    fields(ann.next("user-left"), socketId=bob_id, clientName="Bob", room="kitchen")


@pytest.mark.parametrize("transports", TRANSPORTS.values(), ids=TRANSPORTS.keys())
def test_order_is_kept_without_waiting(connect, transports):
    sender, witness = connect(transports), connect(["websocket"])
    witness.ask("join-room", "r")
    sender.io.emit("join-room", "r")
    for number in range(100):
        sender.io.emit("message", {"roomName": "r", "n": number, "replyToSender": True})
    for client in (sender, witness):
        heard = [client.next("message-reply") for _ in range(100)]
        # python-socketio runs every handler in a thread of its own, so the order is read off the server's numbers.
        heard.sort(key=lambda message: message["offset"])
        assert [message["n"] for message in heard] == list(range(100))


def test_text_without_a_room_goes_to_everyone(connect):
    ann, bob = connect(["polling"]), connect(["websocket"])
    ann.io.send("hello")
    bob.io.send({"text": "hello yourself"})
    for client in (ann, bob):
        heard = [client.next("message"), client.next("message")]
        assert "hello" in heard
        assert {"text": "hello yourself"} in heard


def test_a_refusal_says_why(connect):
    ann = connect(["websocket"])
    message = "No resourceId specified in the message"
    assert ann.ask("message", {"message": "to whom?"}) == {"success": False, "message": message, "code": "no_room"}
    assert ann.next("error") == {"message": message, "code": "no_room", "event": "message"}
    fields(ann.ask("sendMessage", {"roomId": "r"}), success=False, code="invalid_payload")
    fields(ann.next("exception"), status="error")
    assert ann.ask("join-room", "r")["success"] is True
