"""The chart's Redis, started as processes on loopback from what Helm renders: the same scripts, configuration, users and
TLS as in pods, with an address of its own for each node. `make chart-redis`. With TLS=off in the environment, for servers that
are built without it."""

import base64
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import helm
from helm import Case
from places import CHART

CI = CHART / "ci"
TLS = os.environ.get("TLS") != "off"


def free_port() -> int:
    """A port that nobody uses, with room for a cluster's bus 10000 above it."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        if port < 55000:
            return port


def until(what: str, condition, seconds: float = 60) -> float:
    """Waits for a condition; how long that took."""
    begun = time.monotonic()
    while True:
        if answer := condition():
            return time.monotonic() - begun
        if time.monotonic() - begun > seconds:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s: {answer!r}")
        time.sleep(0.05)


class Node:
    """What a pod of the StatefulSet is."""

    def __init__(self, release: "Release", index: int) -> None:
        self.host = release.hosts[index]
        self.folder = release.folder / f"node-{index}"
        for name in ["data", "run", "etc"]:
            (self.folder / name).mkdir(parents=True)
        shutil.copytree(release.folder / "etc", self.folder / "etc", dirs_exist_ok=True)
        # Pods have an address each; here all are on one machine.
        binds = {"redis.conf": release.behind[index], "sentinel.conf": self.host}
        for name, address in binds.items():
            file = self.folder / "etc" / name
            if file.exists():
                # In a network that can be cut, fellows are told from clients by the address that they come from.
                source = f"bind-source-addr {release.behind[index]}\n" if release.behind != release.hosts else ""
                file.write_text(file.read_text().replace("bind * -::*\n", "") + f"\nbind {address}\n{source}")
        self.environment = release.environment | {
            "POD_NAME": f"redis-{index}", "POD_IP": self.host, "ETC": f"{self.folder}/etc",
            "DATA": f"{self.folder}/data", "RUNTIME": f"{self.folder}/run",
        }
        self.processes: dict[str, subprocess.Popen] = {}

    def start(self, script: str) -> None:
        log = (self.folder / f"{script}.log").open("ab")
        self.processes[script] = subprocess.Popen(
            ["/bin/sh", f"{self.folder}/etc/{script}.sh"], env=self.environment, stdout=log, stderr=log,
            start_new_session=True,
        )

    def end(self, script: str, how: signal.Signals) -> None:
        """Of the server's whole session: what it started goes with it, as with a container."""
        process = self.processes.pop(script, None)
        if process:
            os.killpg(process.pid, how)
            process.wait(30)

    def script(self, name: str, *arguments: str) -> subprocess.CompletedProcess:
        """A probe, or what kubelets run before the end."""
        return subprocess.run(
            ["/bin/sh", f"{self.folder}/etc/{name}.sh", *arguments], env=self.environment,
            capture_output=True, text=True, timeout=60, check=False,
        )


class Release:
    """The servers of a release. With `network`, somebody else listens at each server's address, and passes on to where it is:
    `behind`."""

    def __init__(self, topology: str, folder: Path, network: bool = False) -> None:
        self.folder = folder
        case = Case(topology, (CI / f"topology-{topology}.yaml",), ("redis.auth.sharedAgents=true", self.runs_by(topology), f"tls.enabled={str(TLS).lower()}"))
        objects = helm.template("helm", case)
        found = {helm.name(one): one for one in objects}
        workload = found["StatefulSet/rc-runcast-redis"]
        self.size = workload["spec"]["replicas"]
        self.port, self.sentinel_port = free_port(), free_port()
        self.hosts = [f"127.0.77.{index + 1}" for index in range(self.size)]
        self.behind = [f"127.0.78.{index + 1}" for index in range(self.size)] if network else self.hosts
        self.write("etc", found["ConfigMap/rc-runcast-redis"]["data"], 0o755)
        users = found["Secret/rc-runcast-redis-users"]["data"]
        self.passwords = {name: decoded(value) for name, value in users.items()}
        self.write("users", self.passwords, 0o600)
        self.certify()
        given = {one["name"]: one.get("value") for one in workload["spec"]["template"]["spec"]["containers"][0]["env"]}
        self.environment = {name: value for name, value in given.items() if value} | {
            "PATH": os.environ["PATH"], "HOSTS": " ".join(self.hosts), "PORT": str(self.port),
            "SENTINEL_PORT": str(self.sentinel_port), "USERS": f"{folder}/users", "CERTS": f"{folder}/certs",
        }
        self.nodes = [Node(self, index) for index in range(self.size)]
        self.scripts = ["start", "sentinel"] if topology == "sentinel" else ["start"]
        query = "&".join(f"node={host}:{self.entry}" for host in self.hosts[1:])
        kind = {"sentinel": "-sentinel", "cluster": "-cluster", "standalone": ""}[topology]
        service = "sentinelServiceName=runcast&" if topology == "sentinel" else ""
        self.url = f"redis{'s' if TLS else ''}{kind}://{self.hosts[0]}:{self.entry}?{service}{query}".rstrip("?&")

    @staticmethod
    def runs_by(topology: str) -> str:
        """Who makes the users of runs: the control-plane, or, on one server, the chart."""
        return "redis.auth.runs={run-1}" if topology == "standalone" else "redis.auth.manageRuns=true"

    @property
    def entry(self) -> int:
        """The port that clients begin at."""
        return self.sentinel_port if "QUORUM" in self.environment else self.port

    def write(self, name: str, files: dict[str, str], mode: int) -> None:
        folder = self.folder / name
        folder.mkdir()
        for file, text in files.items():
            (folder / file).write_text(text)
            (folder / file).chmod(mode)

    def certify(self) -> None:
        """A certificate for the nodes' addresses, instead of that for pods' names."""
        folder = self.folder / "certs"
        folder.mkdir()
        names = ",".join(f"IP:{host}" for host in self.hosts)
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"]
        openssl = lambda *words: subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)
        openssl("req", "-x509", *key, "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.crt")
        openssl("req", "-x509", *key, "-subj", "/CN=redis", "-addext", f"subjectAltName={names}",
                "-addext", "basicConstraints=CA:FALSE",
                "-CA", "ca.crt", "-CAkey", "ca.key", "-keyout", "tls.key", "-out", "tls.crt")

    def __enter__(self) -> "Release":
        for node in self.nodes:
            for script in self.scripts:
                node.start(script)
        return self

    def __exit__(self, *_: object) -> None:
        for node in self.nodes:
            for script in self.scripts:
                node.end(script, signal.SIGKILL)

    def cli(self, host: str, *words: str, user: str | None = "admin", port: int | None = None) -> str:
        """What a server answers."""
        command = ["redis-cli", "-h", host, "-p", str(port or self.port)]
        if TLS:
            command += ["--tls", "--cacert", f"{self.folder}/certs/ca.crt"]
        environment = {"PATH": os.environ["PATH"]}
        if user:
            command += ["--user", user, "--no-auth-warning"]
            environment["REDISCLI_AUTH"] = self.passwords[user]
        result = subprocess.run([*command, *words], env=environment, capture_output=True, text=True, timeout=10, check=False)
        return result.stdout.strip()

    def info(self, host: str, field: str) -> str | None:
        lines = self.cli(host, "INFO").splitlines()
        return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(f"{field}:")), None)

    def refused(self, node: Node) -> list[str]:
        """What a server refused to Runcast's own programs since it was asked last. Users of runs that the control-plane makes are
        unknown to a server that has just come back, until it has made them there, too: being sent away meanwhile is no fault."""
        lines = self.cli(node.host, "ACL", "LOG").splitlines()
        self.cli(node.host, "ACL", "LOG", "RESET")
        found, entry = [], {}
        # Names and values in turn, a line each; `username` comes after what the entry is about.
        for name, value in zip(lines, lines[1:]):
            if name in ("reason", "object", "username"):
                entry[name] = value
            if name == "username" and value.startswith("runcast-"):
                if not (entry.get("reason") == "auth" and value.startswith("runcast-run-")):
                    found.append(f"{value}: {entry.get('reason')}: {entry.get('object')}")
        return found

    def primaries(self) -> list[Node]:
        return [node for node in self.nodes if self.info(node.host, "role") == "master"]

    def primary(self) -> Node:
        """Whom the sentinels that answer call so."""
        for node in self.nodes:
            words = "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "runcast"
            answer = self.cli(node.host, *words, user=None, port=self.sentinel_port).splitlines()
            if answer:
                return next((one for one in self.nodes if one.host == answer[0]), self.nodes[0])
        return self.nodes[0]

    def is_whole(self) -> bool:
        """Whether all nodes are ready, and the sentinels or the cluster know one another."""
        if any(node.script("probe", "ready").returncode for node in self.nodes):
            return False
        if self.size == 1:
            return True
        if "QUORUM" in self.environment:
            sure = lambda node: self.cli(node.host, "SENTINEL", "CKQUORUM", "runcast", user=None, port=self.sentinel_port)
            replicas = self.info(self.primary().host, "connected_slaves")
            # They learn of replicas later than replicas are ready.
            known = [self.cli(n.host, "SENTINEL", "REPLICAS", "runcast", user=None, port=self.sentinel_port).count("replica-announced")
                     for n in self.nodes]
            return (all(sure(n).startswith(f"OK {self.size} usable") for n in self.nodes)
                    and {replicas, *map(str, known)} == {str(self.size - 1)})
        state = [self.cli(node.host, "CLUSTER", "INFO") for node in self.nodes]
        return all("cluster_state:ok" in one and f"cluster_known_nodes:{self.size}" in one for one in state)


def decoded(value: str) -> str:
    return base64.b64decode(value).decode()


def temporary() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="runcast-redis-", ignore_cleanup_errors=True)
