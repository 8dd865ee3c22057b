"""A backend that answers the events of its own clients, with what Python brings and one library for the signature.

    pip install standardwebhooks
    HANDLER_SECRET=whsec_… PORT=4000 python server.py
    HANDLER_SECRET=whsec_… HANDLER_URL=http://localhost:4000/roomcast HANDLER_CONNECT=true roomcast
"""

import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

webhook = Webhook(os.environ["HANDLER_SECRET"])
orders = {}


def create_order(request):
    """`order:create`: the client joins the order's room, and the staff is told."""
    order = request["args"][0] if request["args"] else None
    if not isinstance(order, dict) or not isinstance(order.get("sku"), str):
        return {"error": {"message": "sku must be a string", "code": "invalid_order"}}
    number = len(orders) + 1
    orders[number] = {"id": number, "sku": order["sku"], "by": request["client"]["userId"]}
    return {
        "join": [f"order-{number}"],
        "emit": [{"event": "order:created", "data": orders[number], "rooms": ["staff"], "volatile": True}],
        "ack": [None, orders[number]],
    }


def count_visits(request):
    """`visits:count`: roomcast keeps the number with the client."""
    visits = request["client"]["data"].get("visits", 0) + 1
    return {"data": {"visits": visits}, "ack": [visits]}


EVENTS = {"order:create": create_order, "visits:count": count_visits}


def connect(request):
    """Who a new client is."""
    name = request["handshake"]["auth"].get("name")
    if not isinstance(name, str):
        return {"error": {"message": "who are you?", "code": "no_name"}}
    return {"client": {"userId": name, "clientName": name, "join": ["staff"] if name == "boss" else []}}


def answer(request):
    """What roomcast is to do."""
    if request["type"] == "connect":
        return connect(request)
    event = EVENTS.get(request["event"])
    if event is None:
        return {"error": {"message": f"no event \"{request['event']}\"", "code": "unknown_event"}}
    return event(request)


class Handler(BaseHTTPRequestHandler):
    """Answers `POST /roomcast`."""

    # Connections stay open for the next request.
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        try:
            webhook.verify(body, {name.lower(): value for name, value in self.headers.items()})
            status, reply = 200, answer(json.loads(body))
        except WebhookVerificationError as error:
            status, reply = 401, {"message": str(error)}
        text = json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        """No line for each request."""


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "4000"))), Handler)
    print("listening", flush=True)
    server.serve_forever()
