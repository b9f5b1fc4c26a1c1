"""An API server that knows only Secrets: for what Helm looks up when a release is upgraded."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import helm
from helm import Case
from places import CHART

# Which kinds there are, for Helm looks them up.
KINDS = {
    "v1": ["ConfigMap", "PersistentVolumeClaim", "Pod", "Secret", "Service", "ServiceAccount"],
    "apps/v1": ["Deployment", "StatefulSet"],
    "networking.k8s.io/v1": ["NetworkPolicy"],
    "policy/v1": ["PodDisruptionBudget"],
}


def discovery() -> dict[str, dict]:
    """What an API server says of itself, by path."""
    groups = [
        {"name": version.split("/")[0], "versions": [{"groupVersion": version, "version": "v1"}],
         "preferredVersion": {"groupVersion": version, "version": "v1"}}
        for version in KINDS if "/" in version
    ]
    answers = {
        "/version": {"major": "1", "minor": "37", "gitVersion": "v1.37.0"},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups},
    }
    for version, kinds in KINDS.items():
        plural = {kind: kind.lower().replace("policy", "policie") + "s" for kind in kinds}
        answers[f"/{'apis' if '/' in version else 'api'}/{version}"] = {
            "kind": "APIResourceList", "groupVersion": version,
            "resources": [{"name": plural[kind], "singularName": kind.lower(), "namespaced": True, "kind": kind,
                           "verbs": ["get", "list"]} for kind in kinds],
        }
    return answers


ANSWERS = discovery()


class Server(ThreadingHTTPServer):
    """Serves the Secrets that it is given, on loopback."""

    def __init__(self, secrets: dict[str, dict]) -> None:
        self.secrets = secrets
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        path = self.path.split("?")[0].rstrip("/")
        prefix = f"/api/v1/namespaces/{helm.NAMESPACE}/secrets/"
        answer = ANSWERS.get(path)
        if path.startswith(prefix):
            answer = self.server.secrets.get(path.removeprefix(prefix))
        missing = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
        body = json.dumps(answer or missing).encode()
        self.send_response(200 if answer else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def secrets(manifests: list[dict]) -> dict[str, dict]:
    return {
        m["metadata"]["name"]: m
        for m in manifests
        if m["kind"] == "Secret" and m["metadata"]["namespace"] == helm.NAMESPACE
    }


def upgraded(program: str, case: Case, installed: dict[str, dict]) -> dict[str, dict]:
    with Server(installed) as server:
        arguments = ["--dry-run=server", "--is-upgrade", "--disable-openapi-validation",
                     "--kube-apiserver", server.url, "--kube-token", "none"]
        try:
            return secrets(helm.template(program, case, CHART, *arguments))
        finally:
            server.shutdown()


def findings() -> list[str]:
    wrong = []
    shared = Case("", (), ("redis.auth.sharedAgents=true", "redis.auth.runs={relay}"))
    for program in helm.MAJORS:
        first = secrets(helm.template(program, shared))
        second = upgraded(program, shared, first)
        for name, secret in first.items():
            for entry, value in secret["data"].items():
                if second[name]["data"].get(entry) != value:
                    wrong.append(f"{program}: {name}.{entry} changes in an upgrade")
        # With another name to certify, that certificate is made anew, by the same authority.
        longer = Case("", (), (*shared.sets, "clusterDomain=other.local"))
        third = upgraded(program, longer, first)
        if third["rc-runcast-ca"]["data"] != first["rc-runcast-ca"]["data"]:
            wrong.append(f"{program}: the authority changes with a name")
        if third["rc-runcast-redis-tls"]["data"]["tls.crt"] == first["rc-runcast-redis-tls"]["data"]["tls.crt"]:
            wrong.append(f"{program}: a certificate does not change with its names")
        if len(base64.b64decode(first["rc-runcast-redis-users"]["data"]["admin"])) < 32:
            wrong.append(f"{program}: passwords are short")
    return wrong
