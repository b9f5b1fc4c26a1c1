"""Objects against the schemas of the Kubernetes API."""

import functools

import jsonschema
from kubernetes_validate.utils import schema_contents
from referencing import Registry, Resource

# The oldest version that the chart takes, one in between, one with the sidecar's policy, the newest.
VERSIONS = ["1.29", "1.33", "1.36", "1.37"]
# Kinds of others, which those schemas do not have, and what must stand in their specs.
FOREIGN = {
    "cert-manager.io/v1/Certificate": {"secretName", "issuerRef"},
    "cert-manager.io/v1/Issuer": set(),
    "gateway.networking.k8s.io/v1/HTTPRoute": {"parentRefs", "rules"},
    "gateway.networking.k8s.io/v1/GRPCRoute": {"parentRefs", "rules"},
    "gateway.networking.k8s.io/v1/BackendTLSPolicy": {"targetRefs", "validation"},
    "monitoring.coreos.com/v1/ServiceMonitor": {"selector", "endpoints"},
    "monitoring.coreos.com/v1/PodMonitor": {"selector", "podMetricsEndpoints"},
    "monitoring.coreos.com/v1/PrometheusRule": {"groups"},
    "keda.sh/v1alpha1/ScaledObject": {"scaleTargetRef", "triggers"},
}
# Kinds that came later than the oldest version, and since when they are there.
SINCE = {"MutatingAdmissionPolicy": "1.36", "MutatingAdmissionPolicyBinding": "1.36"}


def number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def versions_for(manifest: dict) -> list[str]:
    since = number(SINCE.get(manifest["kind"], VERSIONS[0]))
    return [version for version in VERSIONS if number(version) >= since]


@functools.cache
def registry(version: str) -> Registry:
    """What all kinds' schemas refer to; read once, for reading takes longer than validating."""
    definitions = schema_contents(f"{folder(version)}/_definitions.json", version)
    return (Resource.from_contents(definitions) @ Registry()).crawl()


def folder(version: str) -> str:
    return f"kubernetes-json-schema/v{version}.0-local-strict"


@functools.cache
def validator(version: str, kind: str, api: str) -> jsonschema.Draft202012Validator:
    """Raises FileNotFoundError for a kind that the version does not have."""
    # rbac.authorization.k8s.io/v1 is rbac-v1 there.
    group, _, number = api.rpartition("/")
    short = "-".join(part for part in [group.split(".")[0], number] if part)
    schema = schema_contents(f"{folder(version)}/{kind.lower()}-{short}.json", version)
    return jsonschema.Draft202012Validator(schema, registry=registry(version))


def findings(manifest: dict) -> tuple[int, list[str]]:
    """Against how many versions an object was validated, and what is wrong with it."""
    kind = f"{manifest['apiVersion']}/{manifest['kind']}"
    if kind in FOREIGN:
        missing = FOREIGN[kind] - manifest.get("spec", {}).keys()
        return 0, [f"lacks spec.{name}" for name in sorted(missing)]
    wrong = []
    versions = versions_for(manifest)
    for version in versions:
        try:
            errors = validator(version, manifest["kind"], manifest["apiVersion"]).iter_errors(manifest)
            wrong += [f"{version}: {'.'.join(map(str, error.path))}: {error.message}" for error in errors]
        except FileNotFoundError:
            wrong.append(f"{version}: {kind}: no such kind")
    return len(versions), wrong
