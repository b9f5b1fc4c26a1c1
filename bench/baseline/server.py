"""What people write first: FastAPI, sse-starlette and redis.asyncio, one subscription for each viewer.

With --shared, what they write when Redis runs out of connections: one subscription for the process, and a
queue for each viewer.

    server.py --port 8080 --redis 6379 [--shared]
"""

import argparse
import asyncio
import json
from collections import defaultdict

import redis.asyncio as redis
import uvicorn
from fastapi import FastAPI
from sse_starlette.sse import EventSourceResponse

options = argparse.ArgumentParser()
options.add_argument("--port", type=int, required=True)
options.add_argument("--redis", type=int, required=True)
options.add_argument("--shared", action="store_true")
options = options.parse_args()

app = FastAPI()
# By default redis-py opens as many connections as are asked for.
pool = redis.ConnectionPool(host="127.0.0.1", port=options.redis, max_connections=20000)
queues = defaultdict(set)


def event(payload):
    message = json.loads(payload)
    return {"id": f"v:{message['sequence']}", "event": message["type"], "data": payload.decode()}


async def alone(run):
    pubsub = redis.Redis(connection_pool=pool).pubsub()
    await pubsub.subscribe(f"bench:{run}")
    try:
        async for message in pubsub.listen():
            if message["type"] == "message":
                yield event(message["data"])
    finally:
        await pubsub.aclose()


async def together(run):
    queue = asyncio.Queue(10000)
    queues[run].add(queue)
    try:
        while True:
            yield await queue.get()
    finally:
        queues[run].discard(queue)


async def listen():
    pubsub = redis.Redis(connection_pool=pool).pubsub()
    await pubsub.psubscribe("bench:*")
    async for message in pubsub.listen():
        if message["type"] == "pmessage":
            one = event(message["data"])
            for queue in queues.get(message["channel"].decode().removeprefix("bench:"), ()):
                if not queue.full():
                    queue.put_nowait(one)


@app.on_event("startup")
async def start():
    if options.shared:
        app.state.listening = asyncio.create_task(listen())


@app.get("/v1/runs/{run}/events")
async def events(run: str):
    return EventSourceResponse(together(run) if options.shared else alone(run))


uvicorn.run(app, host="127.0.0.1", port=options.port, log_level="warning", access_log=False, backlog=4096)
