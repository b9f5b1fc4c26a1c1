"""What pods must be like: the restricted profile of the Pod Security Standards, and what the chart promises besides. What
alerts must: each has a runbook."""

from pathlib import Path

from helm import name, pods

RUNBOOKS = Path(__file__).parents[2] / "docs" / "runbooks"

# Volumes that the restricted profile lets pods have.
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected", "secret"}


def findings(manifest: dict, ours: bool = True) -> list[str]:
    """What is wrong with an object's pods, and its alerts; of an example's pods, whose containers are somebody else's,
    only the profile."""
    return [finding for pod in pods(manifest) for finding in of_pod(pod, ours)] + of_rules(manifest)


def of_pod(pod: dict, ours: bool) -> list[str]:
    wrong = []
    security = pod.get("securityContext", {})
    for setting in ["hostNetwork", "hostPID", "hostIPC"]:
        if pod.get(setting):
            wrong.append(f"{setting} is set")
    for volume in pod.get("volumes", []):
        kinds = volume.keys() - {"name"}
        if not kinds <= VOLUMES:
            wrong.append(f"volume {volume['name']}: {kinds} is not allowed")
    if ours and pod.get("automountServiceAccountToken") is not False:
        wrong.append("the service account's token is mounted")
    containers = pod["containers"] + pod.get("initContainers", [])
    mounted = {mount["name"] for container in containers for mount in container.get("volumeMounts", [])}
    volumes = {volume["name"] for volume in pod.get("volumes", [])} | {"data"}
    if not mounted <= volumes:
        wrong.append(f"mounted, but no volume: {mounted - volumes}")
    for container in containers:
        wrong += [f"{container['name']}: {what}" for what in of_container(container, security, ours)]
    return wrong


def of_container(container: dict, pod: dict, ours: bool) -> list[str]:
    wrong = []
    security = container.get("securityContext", {})
    effective = pod | security
    if effective.get("runAsNonRoot") is not True or effective.get("runAsUser") == 0:
        wrong.append("may run as root")
    if effective.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
        wrong.append("has no seccomp profile")
    if security.get("privileged"):
        wrong.append("is privileged")
    if security.get("allowPrivilegeEscalation") is not False:
        wrong.append("may gain privileges")
    if security.get("capabilities", {}).get("drop") != ["ALL"] or security.get("capabilities", {}).get("add"):
        wrong.append("keeps capabilities")
    if ours:
        wrong += of_our_container(container, security)
    return wrong


def of_our_container(container: dict, security: dict) -> list[str]:
    wrong = []
    if security.get("readOnlyRootFilesystem") is not True:
        wrong.append("may write to its root")
    resources = container.get("resources", {})
    if "memory" not in resources.get("limits", {}) or not {"cpu", "memory"} <= resources.get("requests", {}).keys():
        wrong.append("has no requests, or no limit of memory")
    names = [variable["name"] for variable in container.get("env", [])]
    if len(names) != len(set(names)):
        wrong.append(f"environment names something twice: {sorted(names)}")
    for variable in container.get("env", []):
        if "PASSWORD" in variable["name"] and variable.get("value"):
            wrong.append(f"{variable['name']} stands in the manifest")
    if container["image"].endswith(":latest") or ":" not in container["image"]:
        wrong.append(f"image {container['image']} has no fixed tag or digest")
    return wrong


def of_release(manifests: list[dict]) -> list[str]:
    """What objects must be to one another."""
    wrong = []
    names = [name(manifest) + "/" + manifest["metadata"].get("namespace", "") for manifest in manifests]
    wrong += [f"{twice} is there twice" for twice in {n for n in names if names.count(n) > 1}]
    known = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests}
    for manifest in manifests:
        for pod in pods(manifest):
            for volume in pod.get("volumes", []):
                config = volume.get("configMap", {}).get("name")
                if config and ("ConfigMap", config) not in known:
                    wrong.append(f"{name(manifest)}: no ConfigMap {config}")
    workloads = [m for m in manifests if m["kind"] in ("Deployment", "StatefulSet")]
    for manifest in manifests:
        if manifest["kind"] in ("Service", "PodDisruptionBudget", "NetworkPolicy", "ServiceMonitor"):
            selector = manifest["spec"].get("podSelector", manifest["spec"].get("selector"))
            wanted = (selector.get("matchLabels", selector)).items()
            chosen = [w for w in workloads if wanted <= w["spec"]["template"]["metadata"]["labels"].items()]
            if len(chosen) != 1:
                wrong.append(f"{name(manifest)} selects {len(chosen)} workloads")
    return wrong


def of_rules(manifest: dict) -> list[str]:
    """What is wrong with the alerts of a PrometheusRule: each names a runbook that is there."""
    if manifest["kind"] != "PrometheusRule":
        return []
    rules = [rule for group in manifest["spec"]["groups"] for rule in group["rules"] if "alert" in rule]
    annotations = [(rule["alert"], rule.get("annotations", {})) for rule in rules]
    books = [(alert, known.get("runbook_url", known.get("runbook", ""))) for alert, known in annotations]
    return [
        f"alert {alert} has no page: {book!r}"
        for alert, book in books
        if not (RUNBOOKS / book.rsplit("/", 1)[-1]).is_file()
    ]
