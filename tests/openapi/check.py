"""Holds the server to its own OpenAPI document: no 5xx, no answer that the document does not have.

    ROOMCAST_BIN=target/debug/roomcast python check.py [schemathesis options]

Three callers ask: one with a key, one without, and one of a server that has no keys.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import urllib.request
from contextlib import contextmanager
from pathlib import Path

KEY = "a-key-of-the-tests"

# What no answer may be. Left out are the checks that know better than the document: NestJS answers a method
# that a route does not have with 404 and not 405, and takes more spellings of a name than are written down.
CHECKS = ",".join(
    [
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
    ]
)


@contextmanager
def server(**env):
    """The server on a free port, with its store in memory; its URL."""
    with tempfile.TemporaryDirectory() as directory:
        process = subprocess.Popen(
            [Path(os.environ["ROOMCAST_BIN"]).resolve()],
            cwd=directory,
            env={
                "HOST": "127.0.0.1",
                "PORT": "0",
                "STORE_URL": "memory:",
                "LOG_FORMAT": "json",
                "PING_INTERVAL": "1h",
                "PING_TIMEOUT": "1h",
                "SHUTDOWN_GRACE": "1s",
                **env,
            },
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            yield f"http://127.0.0.1:{port(process.stdout)}"
            assert process.poll() is None, "the server ended"
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)


def port(log):
    for line in log:
        entry = json.loads(line)
        fields = entry.get("fields", entry)
        if fields.get("message") == "listening":
            return fields["port"]
    raise SystemExit("the server ended before it listened")


def client(url):
    """A client that polls, so that there is one to ask for; its id."""
    path = f"{url}/socket.io/?EIO=4&transport=polling"

    def ask(path, body=None):
        with urllib.request.urlopen(path, data=body, timeout=10) as answer:
            return answer.read().decode()

    session = json.loads(ask(path)[1:])["sid"]
    ask(f"{path}&sid={session}", b"40")
    ask(f"{path}&sid={session}", b'42["join-room","room-7"]\x1e42["authenticate","alice"]')
    while True:
        for packet in ask(f"{path}&sid={session}").split("\x1e"):
            if packet.startswith("40"):
                return json.loads(packet[2:])["sid"]


def check(url, *options, config=""):
    with tempfile.TemporaryDirectory() as directory:
        settings = Path(directory, "schemathesis.toml")
        settings.write_text(config)
        return subprocess.call(
            [
                *[Path(sys.executable).parent / "schemathesis", "--config-file", settings],
                *["run", f"{url}/api-json", "--checks", CHECKS, "--no-color"],
                # The same cases at every run: what is new in the server fails, not what is new in the dice.
                *["--seed", "7", "--max-examples", "10", "--continue-on-failure"],
                *["--request-timeout", "10", "--warnings", "off", "--phases", "examples,coverage,fuzzing"],
                *options,
                *sys.argv[1:],
            ],
            cwd=directory,
        )


def main():
    failed = 0
    with server(API_KEYS=KEY) as url:
        # Half of the requests are for what is there.
        config = f'[parameters]\n"path.clientId" = "{client(url)}"\n"path.userId" = "alice"\n'
        failed |= check(url, "--header", f"X-API-Key: {KEY}")
        failed |= check(url, "--header", f"X-API-Key: {KEY}", "--mode", "positive", config=config)
        failed |= check(url, "--max-examples", "3")
    with server() as url:
        failed |= check(url, "--max-examples", "3")
    return failed


if __name__ == "__main__":
    sys.exit(main())
