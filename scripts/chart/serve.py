"""The chart's Redis behind Sentinel for `make chaos`: says in a line of JSON where it is, then does what each line that it
reads says and answers in a line of JSON. Ends, with all that it started, at the end of what it reads."""

import json
import signal
import sys
from pathlib import Path

from redis_live import Node, Release, temporary


class Servant:
    """Does what it is told."""

    def __init__(self, release: Release) -> None:
        self.release = release
        self.refused: list[str] = []

    def node(self, index: str) -> Node:
        return self.release.nodes[int(index)]

    def primary(self) -> int:
        return self.release.nodes.index(self.release.primary())

    def promoted(self, old: str) -> bool:
        """Whether the sentinels name another primary than `old`, and that knows it."""
        node = self.release.primary()
        return node is not self.node(old) and self.release.info(node.host, "role") == "master"

    def whole(self) -> bool:
        return self.release.is_whole()

    def kill(self, index: str, script: str = "start") -> None:
        node = self.node(index)
        if script == "start":
            # What it remembers of refusals goes with it.
            self.refused += self.release.refused(node)
        node.end(script, signal.SIGKILL)

    def stop(self, index: str) -> None:
        """As a rolling update does."""
        node = self.node(index)
        self.refused += self.release.refused(node)
        node.script("stop")
        for script in self.release.scripts:
            node.end(script, signal.SIGTERM)

    def start(self, index: str, script: str = "start") -> None:
        self.node(index).start(script)

    def freeze(self, index: str) -> None:
        self.node(index).processes["start"].send_signal(signal.SIGSTOP)

    def thaw(self, index: str) -> None:
        self.node(index).processes["start"].send_signal(signal.SIGCONT)

    def command(self, index: str, *words: str) -> str:
        return self.release.cli(self.node(index).host, *words)

    def refusals(self) -> list[str]:
        """All of them so far."""
        for node in self.release.nodes:
            self.refused += self.release.refused(node)
        return self.refused


def main() -> None:
    # Who is told to end takes the servers along.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with temporary() as folder:
        release = Release("sentinel", Path(folder), network=True)
        told = {"url": release.url, "hosts": release.hosts, "behind": release.behind, "port": release.port,
                "ca_file": f"{folder}/certs/ca.crt", "passwords": release.passwords}
        print(json.dumps(told), flush=True)
        # Servers begin once there is a network.
        sys.stdin.readline()
        with release:
            servant = Servant(release)
            print("null", flush=True)
            for line in sys.stdin:
                name, *words = json.loads(line)
                try:
                    answer = getattr(servant, name)(*words)
                except Exception as error:  # noqa: BLE001 - who asked is told
                    answer = {"error": repr(error)}
                print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
