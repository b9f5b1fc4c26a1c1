"""`make chart-redis`: the chart's Redis on loopback, with Runcast's real programs on it under its users. Pods are stopped as
Kubernetes stops them, killed, and robbed of their volumes, while an agent writes and somebody watches."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from places import PROGRAMS, ROOT
from redis_live import TLS, Node, Release, free_port, temporary, until

TEXT = "".join((ROOT / f"examples/texts/{name}.md").read_text() for name in ["atlas", "relay", "tides"]) * 4


def say(what: str) -> None:
    print(f"         {what}", flush=True)


class Programs:
    """Runcast's programs on a release's Redis."""

    def __init__(self, release: Release) -> None:
        self.release = release
        self.running: list[subprocess.Popen] = []
        self.ports = {name: free_port() for name in ["fanout", "control", "replay"]}
        self.admin = {name: free_port() for name in self.ports}

    def environment(self, user: str, **more: str) -> dict[str, str]:
        settings = {
            "PATH": os.environ["PATH"], "HOME": str(self.release.folder), "RUNCAST__REDIS__URL": self.release.url,
            "RUNCAST__REDIS__CA_FILE": f"{self.release.folder}/certs/ca.crt" if TLS else "", "RUNCAST__REDIS__USERNAME": user,
            "RUNCAST__REDIS__PASSWORD": self.release.passwords[user],
        }
        return settings | more

    def start(self, name: str, *arguments: str, environment: dict[str, str], output=None) -> subprocess.Popen:
        log = (self.release.folder / f"{name}.log").open("ab")
        process = subprocess.Popen(
            [PROGRAMS / name, *arguments], env=environment, stdin=subprocess.DEVNULL, stdout=output or log, stderr=log
        )
        self.running.append(process)
        return process

    def services(self) -> None:
        for name, section in [("fanout", "HTTP"), ("control", "GRPC"), ("replay", "HTTP")]:
            listen = {
                f"RUNCAST__{section}__LISTEN": f"127.0.0.1:{self.ports[name]}",
                "RUNCAST__ADMIN__LISTEN": f"127.0.0.1:{self.admin[name]}",
            }
            if name == "control" and "runcast-run-run-1" not in self.release.passwords:
                listen["RUNCAST__ACL__MANAGE"] = "true"
            self.start(f"runcast-{name}", environment=self.environment(f"runcast-{name}", **listen))
        for name in self.ports:
            until(f"{name} is ready", lambda name=name: self.is_ready(name))

    def is_ready(self, name: str) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin[name]}/readyz", timeout=3) as answer:
                return answer.status == 200
        except OSError:
            return False

    def create_run(self, run: str) -> Path:
        """Has the control-plane make a run with its user, unless the chart did; the file with the password."""
        file = self.release.folder / f"{run}.password"
        if password := self.release.passwords.get(f"runcast-run-{run}"):
            file.write_text(password)
            return file
        subprocess.run(
            [PROGRAMS / "runcast", "--control", f"http://127.0.0.1:{self.ports['control']}",
             "acl", "create", run, "var-0", "--password-file", file],
            env={"PATH": os.environ["PATH"], "HOME": str(self.release.folder)}, check=True, capture_output=True, timeout=60,
        )
        return file

    def agent(self, run: str, tokens: int) -> subprocess.Popen:
        journal = self.release.folder / f"journal-{run}"
        journal.mkdir()
        text = self.release.folder / "text.md"
        text.write_text(TEXT)
        more = {
            "RUNCAST__JOURNAL__FOLDER": str(journal), "RUNCAST__RUN__VARIATIONS": "1",
            "RUNCAST__REDIS__USERNAME": f"runcast-run-{run}", "RUNCAST__REDIS__PASSWORD": "",
            "RUNCAST__REDIS__PASSWORD_FILE": str(self.create_run(run)),
        }
        command = [PROGRAMS / "sample-agent", "--text", text, "--quiet", "--think", "0s", "--tokens-per-second", tokens]
        return self.start(
            "runcast-sidecar", "--run", run, "--variation", "var-0", "exec", "--", *map(str, command),
            environment=self.environment("runcast-agents", **more), output=subprocess.DEVNULL,
        )

    def watcher(self, run: str, file: Path) -> subprocess.Popen:
        return self.start(
            "runcast", "tail", run, "--variations", "var-0", "--fanout", f"http://127.0.0.1:{self.ports['fanout']}",
            environment=self.environment("runcast-doctor"), output=file.open("wb"),
        )

    def doctor(self) -> subprocess.CompletedProcess:
        """As `helm test` calls it."""
        release = self.release
        url = release.url.replace("://", f"://runcast-doctor:{release.passwords['runcast-doctor']}@")
        address = lambda ports, name: f"http://127.0.0.1:{ports[name]}"
        return subprocess.run(
            [PROGRAMS / "runcast", "doctor", "--fanout", address(self.ports, "fanout"),
             "--admin", address(self.admin, "fanout"), "--replay", address(self.ports, "replay"),
             "--replay-admin", address(self.admin, "replay")],
            env={"PATH": os.environ["PATH"], "HOME": str(release.folder), "RUNCAST__REDIS__URL": url,
                 "SSL_CERT_FILE": f"{release.folder}/certs/ca.crt"},
            capture_output=True, text=True, timeout=60, check=False,
        )

    def __enter__(self) -> "Programs":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.running:
            process.kill()
            process.wait()


def restart(release: Release, node: Node, how: signal.Signals, wipe: bool = False) -> None:
    for script in release.scripts:
        node.end(script, how)
    if wipe:
        for path in sorted((node.folder / "data").rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
    # A new pod does not come at once, and not before the others have noticed.
    time.sleep(5 if how == signal.SIGKILL else 1)
    for script in release.scripts:
        node.start(script)


def disturb(release: Release) -> None:
    """A rolling update's stop, a crash, and a crash with the loss of the volume, each of a primary."""
    for what, how, wipe in [
        ("stopped as a rolling update does", signal.SIGTERM, False),
        ("killed", signal.SIGKILL, False),
        ("killed, its volume lost", signal.SIGKILL, True),
    ]:
        node = release.primary() if "QUORUM" in release.environment else release.primaries()[0]
        begun = time.monotonic()
        if how == signal.SIGTERM:
            node.script("stop")
            say(f"handed over after {time.monotonic() - begun:.1f} s")
        restart(release, node, how, wipe)
        took = until("all are ready again", release.is_whole, 90)
        say(f"primary {node.host} {what}: all ready again {took:.1f} s after its start")


def refusals(release: Release) -> list[str]:
    """What users must not do, and nobody without one."""
    host = release.primaries()[0].host
    asked = [
        (None, ("PING",), "NOAUTH"),
        ("runcast-fanout", ("SET", "run:{r}:lease:a", "1"), "NOPERM"),
        ("runcast-agents", ("FLUSHALL",), "NOPERM"),
        ("runcast-agents", ("CONFIG", "GET", "*"), "NOPERM"),
        ("runcast-agents", ("ACL", "LIST"), "NOPERM"),
        ("runcast-replay", ("XADD", "run:{r}:control", "*", "m", "x"), "NOPERM"),
        ("probe", ("GET", "x"), "NOPERM"),
        ("replication", ("GET", "x"), "NOPERM"),
    ]
    if "runcast-run-run-1" in release.passwords:
        asked.append(("runcast-run-run-1", ("XADD", "run:{run-2}:output:a", "*", "m", "x"), "NOPERM"))
    wrong = []
    for user, words, expected in asked:
        if expected not in (answer := release.cli(host, *words, user=user)):
            wrong.append(f"{user}: {' '.join(words)}: {answer}")
    if "QUORUM" in release.environment:
        for words in [("SENTINEL", "FAILOVER", "runcast"), ("SENTINEL", "SET", "runcast", "quorum", "1"), ("SHUTDOWN",)]:
            answer = release.cli(host, *words, user=None, port=release.sentinel_port)
            if "NOPERM" not in answer:
                wrong.append(f"sentinel, without a user: {' '.join(words)}: {answer}")
    return wrong


def try_out(topology: str) -> list[str]:
    with temporary() as folder, Release(topology, Path(folder)) as release, Programs(release) as programs:
        say(f"{topology}: {release.size} nodes whole after {until('the release is whole', release.is_whole, 90):.1f} s")
        programs.services()
        said = Path(folder) / "tail.out"
        watcher = programs.watcher("run-1", said)
        agent = programs.agent("run-1", 400)
        until("something is said", lambda: said.exists() and said.stat().st_size > 100)
        wrong = []
        if topology != "standalone":
            disturb(release)
        until("the agent ends", lambda: agent.poll() is not None, 240)
        until("the watcher ends", lambda: watcher.poll() is not None, 60)
        heard = said.read_bytes()
        say(f"agent's exit status {agent.returncode}, watcher's {watcher.returncode}, {len(heard)} of {len(TEXT.encode())} bytes")
        if heard != TEXT.encode() or watcher.returncode != 0:
            wrong.append("what was watched is not what was said")
        # Users' own tries come first in the log.
        wrong += [f"refused to a program: {node.host}: {what}" for node in release.nodes for what in release.refused(node)]
        wrong += [f"allowed: {what}" for what in refusals(release)]
        for node in release.nodes:
            for script in release.scripts:
                node.end(script, signal.SIGTERM)
        for node in release.nodes:
            for script in release.scripts:
                node.start(script)
        say(f"all stopped, and started: ready after {until('all are back', release.is_whole, 120):.1f} s")
        keys = sum(int(release.cli(node.host, "DBSIZE").split()[-1]) for node in release.primaries())
        if not keys:
            wrong.append("nothing was kept over a restart of all")
        until("the fan-out is ready again", lambda: programs.is_ready("fanout"))
        # What a server could not read of its own file, it says and then goes on.
        wrong += [f"{node.host} says CRITICAL" for node in release.nodes if "CRITICAL" in (node.folder / "start.log").read_text()]
        # In a cluster it takes the first message for lost, and `helm test` does without it.
        if topology != "cluster" and (result := programs.doctor()).returncode:
            wrong.append(f"doctor: {result.stdout}{result.stderr}")
        return [f"{topology}: {what}" for what in wrong]


def main() -> int:
    failed = 0
    for topology in sys.argv[1:] or ["sentinel", "cluster", "standalone"]:
        try:
            wrong = try_out(topology)
        except TimeoutError as error:
            wrong = [f"{topology}: {error}"]
        failed += bool(wrong)
        print(f"{'WRONG ' if wrong else 'ok    '} {topology}", flush=True)
        for what in wrong:
            print(f"         {what}")
    print(f"chart-redis: {len(sys.argv[1:] or [1, 2, 3]) - failed} passed, {failed} failed")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
