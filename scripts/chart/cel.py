"""The sidecar's policy: its expressions, parsed and carried out on pods as an API server would."""

import copy
import re

import celpy

import policy
import schemas

STRING = re.compile(r'"(?:[^"\\]|\\.)*"|\'[^\']*\'')
# `JSONPatch{op: …}`, `Object.spec.initContainers{name: …}`: here they are maps.
TYPE = re.compile(r"(?:JSONPatch|Object(?:\.\w+)+)(?=\{)")
FIELD = re.compile(r"([{,]\s*)([A-Za-z]\w*)(?=:)")

AGENT = {"name": "agent", "image": "agent:1", "securityContext": {
    "allowPrivilegeEscalation": False, "runAsNonRoot": True, "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"}}}
PODS = {
    "bare": {"spec": {"containers": [AGENT]}},
    "full": {
        "annotations": {"runcast/credentials": "our-secret", "runcast/variations": "3", "runcast/run": "run-1"},
        "spec": {"containers": [AGENT], "initContainers": [AGENT | {"name": "first"}],
                 "volumes": [{"name": "scratch", "emptyDir": {}}]},
    },
    "has one": {"spec": {"containers": [AGENT], "initContainers": [AGENT | {"name": "runcast-sidecar"}]}},
    "opted out": {"annotations": {"runcast/sidecar": "none"}, "spec": {"containers": [AGENT]}},
}


def plain(expression: str) -> str:
    """The expression with maps instead of the API server's own types."""
    strings: list[str] = []

    def keep(match: re.Match) -> str:
        strings.append(match.group())
        return f"\0{len(strings) - 1}\0"

    text = FIELD.sub(r'\1"\2"', TYPE.sub("", STRING.sub(keep, expression)))
    return re.sub(r"\0(\d+)\0", lambda match: strings[int(match.group(1))], text)


def evaluate(expression: str, pod: dict, variables: dict) -> object:
    environment = celpy.Environment()
    program = environment.program(environment.compile(plain(expression)))
    scope = {"object": pod, "variables": variables}
    return python(program.evaluate(celpy.json_to_cel(scope)))


def python(value: object) -> object:
    """What CEL answered, without CEL's types."""
    if isinstance(value, dict):
        return {str(key): python(item) for key, item in value.items()}
    if isinstance(value, list):
        return [python(item) for item in value]
    if isinstance(value, celpy.celtypes.BoolType):
        return bool(value)
    return int(value) if isinstance(value, int) else str(value)


def patch(pod: dict, patches: list[dict]) -> dict:
    """JSON patches, of which the policy uses `add`."""
    pod = copy.deepcopy(pod)
    for one in patches:
        *parents, last = one["path"].strip("/").split("/")
        place = pod
        for parent in parents:
            place = place[parent]
        if not isinstance(place, list):
            place[last] = one["value"]
        else:
            place.insert(len(place) if last == "-" else int(last), one["value"])
    return pod


def admitted(spec: dict, pod: dict) -> dict | None:
    """The pod after the policy; None if a condition leaves it alone."""
    variables: dict = {}
    if not all(evaluate(condition["expression"], pod, {}) for condition in spec["matchConditions"]):
        return None
    for variable in spec["variables"]:
        variables[variable["name"]] = evaluate(variable["expression"], pod, variables)
    for mutation in spec["mutations"]:
        pod = patch(pod, evaluate(mutation["jsonPatch"]["expression"], pod, variables))
    return pod


def sample(name: str) -> dict:
    metadata = {"name": "agent-0", "namespace": "team-a", "labels": {"runcast/attach": "true", "runcast/run": "run-1"}}
    if annotations := PODS[name].get("annotations"):
        metadata["annotations"] = annotations
    elif name == "bare":
        # For policies that take the run's name from there.
        metadata["annotations"] = {"runcast/run": "run-1"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": copy.deepcopy(PODS[name]["spec"])}


def wrong_with(name: str, before: dict, after: dict | None) -> list[str]:
    if name in ("has one", "opted out"):
        return [] if after is None else ["is not left alone"]
    if after is None:
        return ["is left alone"]
    wrong = schemas.findings(after)[1] + policy.findings(after, ours=False)
    first = after["spec"]["initContainers"][0]
    if (first["name"], first.get("restartPolicy")) != ("runcast-sidecar", "Always"):
        wrong.append("the first init container is not the sidecar")
    if after["spec"]["containers"] != before["spec"]["containers"]:
        wrong.append("its own containers changed")
    environment = {one["name"]: one.get("value") for one in first["env"]}
    if environment.get("RUNCAST__RUN__VARIATIONS") != ("3" if name == "full" else "0"):
        wrong.append("variations are not those of the annotation")
    secrets = {one["valueFrom"]["secretKeyRef"]["name"] for one in first["env"] if "secretKeyRef" in one.get("valueFrom", {})}
    secrets |= {volume["secret"]["secretName"] for volume in after["spec"]["volumes"] if "secret" in volume}
    if secrets and secrets not in ({"our-secret"}, {"runcast-run-run-1"}, {"runcast-agents"}):
        wrong.append(f"credentials are {secrets}")
    return wrong


def findings(manifests: list[dict]) -> tuple[int, list[str]]:
    """How many expressions there are, and what is wrong with what they make."""
    count, wrong = 0, []
    for manifest in manifests:
        if manifest["kind"] != "MutatingAdmissionPolicy":
            continue
        spec = manifest["spec"]
        count += len(spec["matchConditions"]) + len(spec["variables"]) + len(spec["mutations"])
        for name in PODS:
            pod = sample(name)
            try:
                found = wrong_with(name, pod, admitted(spec, pod))
            except (celpy.CELParseError, celpy.CELEvalError) as error:
                found = [f"{type(error).__name__}: {error}"]
            wrong += [f"{manifest['metadata']['name']}, pod `{name}`: {what}" for what in found]
    return count, wrong or ([] if count else ["no policy was rendered"])
