"""DuckDB reads an archive: `python client_duckdb.py FOLDER REPLAY_URL RUN`.

Tells each check as a line of JSON: what was checked, and the problem if there is one.
"""

import hashlib
import json
import sys
import tempfile

import duckdb
import httpx

folder, replay, run = sys.argv[1:]
http = httpx.Client(base_url=replay, trust_env=False, timeout=30)
db = duckdb.connect()


def check(what, found, expected):
    problem = None if found == expected else f"found {found!r:.200}, expected {expected!r:.200}"
    print(json.dumps({"what": what, "problem": problem}), flush=True)


def digest(text):
    return f"{len(text)} characters, {hashlib.sha256(text.encode()).hexdigest()}"


def read(files, name):
    lines = [json.loads(line) for line in served.text.splitlines()]
    rows = db.sql(f"SELECT count(*), count(DISTINCT (channel, writer, sequence)) FROM '{files}'").fetchall()[0]
    check(f"{name}: each message is one row", rows, (len(lines), len(lines)))
    said = db.sql(
        f"SELECT variation_id, string_agg(message->>'content', '' ORDER BY sequence) FROM '{files}' "
        "WHERE channel = 'output' GROUP BY variation_id ORDER BY variation_id"
    ).fetchall()
    check(f"{name}: both variations are there", [variation for variation, _ in said], ["var-1", "var-2"])
    for variation, text in said:
        words = http.get(f"/v1/runs/{run}/messages", params={"variations": variation, "format": "text"}).text
        check(f"{name}: {variation} said the same", digest(text), digest(words))
    times = db.sql(f"SELECT min(timestamp)::VARCHAR, max(timestamp)::VARCHAR FROM '{files}'").fetchall()[0]
    stamps = sorted(line["timestamp"].replace("T", " ").rstrip("Z0").rstrip(".") for line in lines)
    check(f"{name}: the times are times", [time.split("+")[0].rstrip("0").rstrip(".") for time in times], [stamps[0], stamps[-1]])
    raw = db.sql(f"SELECT message FROM '{files}' ORDER BY channel, writer, sequence").fetchall()
    check(f"{name}: messages are byte for byte", sorted(line for line, in raw), sorted(served.text.splitlines()))


served = http.get(f"/v1/runs/{run}/messages", params={"limit": "all", "channels": "output,logs,status,metrics,control,acks"})
read(f"{folder}/runs/{run}/segments/*.parquet", "archive")
with tempfile.NamedTemporaryFile(suffix=".parquet") as file:
    file.write(http.get(f"/v1/runs/{run}/export", params={"format": "parquet"}).content)
    file.flush()
    read(file.name, "export")
