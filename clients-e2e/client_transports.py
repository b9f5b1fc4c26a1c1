"""A run over another way than plain HTTP/1.1: `python client_transports.py WAY URL [CA_FILE]`.

Tells each event as a line of its id, its name and its data, and at last how many seconds lay between the first
event and the last: what is held back on its way comes all at once.
"""

import asyncio
import json
import ssl
import sys
import time

import httpx
import websockets
from httpx_sse import connect_sse

way, url, *ca_file = sys.argv[1:]
times = []


def tell(name, event_id, data):
    times.append(time.monotonic())
    print(json.dumps([event_id, name, data]))


def over_http(http2, encoding):
    context = ssl.create_default_context(cafile=ca_file[0]) if ca_file else True
    # Without TLS, a client that speaks only HTTP/2 begins with it.
    with httpx.Client(http1=not http2, http2=http2, verify=context, trust_env=False, timeout=30) as client:
        headers = {"Accept-Encoding": encoding}
        with connect_sse(client, "GET", url, headers=headers) as source:
            answer = source.response
            assert answer.http_version == ("HTTP/2" if http2 else "HTTP/1.1"), answer.http_version
            assert answer.headers.get("content-encoding", "identity") == encoding, answer.headers
            for event in source.iter_sse():
                tell(event.event, event.id, event.json())


async def over_websocket():
    context = ssl.create_default_context(cafile=ca_file[0]) if ca_file else None
    async with websockets.connect(url, ssl=context, proxy=None) as socket:
        async for text in socket:
            message = json.loads(text)
            tell(message["event"], message["id"], message["data"])
        assert socket.close_code == 1000, socket.close_code


match way:
    case "http2":
        over_http(True, "identity")
    case "zstd" | "gzip":
        over_http(False, way)
    case "http2-zstd":
        over_http(True, "zstd")
    case "websocket":
        asyncio.run(over_websocket())
print(json.dumps(times[-1] - times[0]))
