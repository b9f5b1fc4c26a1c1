"""Python `httpx-sse`: `python client_httpx_sse.py URL`. Reconnecting is the caller's business there."""

import json
import sys
import time

import httpx
from httpx_sse import connect_sse

url = sys.argv[1]
seen = {"text": {}, "sequences": {}, "problems": [], "ends": [], "stopped": None}
last_id, retry = "", 2.0


def take(event):
    if event.event == "end":
        seen["ends"].append(event.json())
    elif event.event == "output":
        message = event.json()
        variation, sequence = message["variation_id"], message["sequence"]
        first = message.get("first_sequence", sequence)
        expected = seen["sequences"].get(variation, 0) + 1
        if first != expected:
            seen["problems"].append(f"{variation}: message {first} where {expected} was due")
        seen["sequences"][variation] = sequence
        seen["text"][variation] = seen["text"].get(variation, "") + message["content"]
    elif event.event not in ("log", "status", "metric"):
        seen["problems"].append(f"event {event.event!r} with data {event.data[:80]!r}")


with httpx.Client(timeout=httpx.Timeout(5, read=30), trust_env=False) as client:
    while seen["stopped"] is None:
        headers = {"Last-Event-ID": last_id} if last_id else {}
        try:
            with connect_sse(client, "GET", url, headers=headers) as source:
                if source.response.status_code != 200:
                    seen["stopped"] = str(source.response.status_code)
                    break
                for event in source.iter_sse():
                    take(event)
                    last_id = event.id or last_id
                    retry = event.retry / 1000 if event.retry is not None else retry
        except httpx.TransportError as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
        time.sleep(retry)

json.dump(seen, sys.stdout)
