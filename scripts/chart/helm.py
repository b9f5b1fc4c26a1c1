"""Helm: renders charts into objects."""

import hashlib
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import yaml

from places import CHART, TOOLS

NAMESPACE = "agents"
RELEASE = "rc"
# Both majors, by their names in target/tools.
MAJORS = ["helm", "helm3"]
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Case:
    """One combination of values."""

    name: str
    files: tuple[Path, ...] = ()
    sets: tuple[str, ...] = ()


class Refused(Exception):
    """Helm did not render; why."""


def run(program: str, *arguments: object) -> str:
    result = subprocess.run(
        [TOOLS / program, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False
    )
    if result.returncode != 0:
        raise Refused(result.stderr.strip())
    return result.stdout


def template(program: str, case: Case, chart: Path = CHART, *more: str) -> list[dict]:
    """The objects of a release with these values."""
    arguments = ["template", RELEASE, chart, "--namespace", NAMESPACE, *more]
    for file in case.files:
        arguments += ["--values", file]
    for setting in case.sets:
        arguments += ["--set", setting]
    return [manifest for manifest in yaml.load_all(run(program, *arguments), LOADER) if manifest]


def name(manifest: dict) -> str:
    return f"{manifest['kind']}/{manifest['metadata']['name']}"


def digest(manifest: dict) -> str:
    """Of all of an object; two that are alike need be looked at once."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def pods(manifest: dict) -> list[dict]:
    """The pod specs of an object."""
    match manifest["kind"]:
        case "Deployment" | "StatefulSet" | "Job":
            return [manifest["spec"]["template"]["spec"]]
        case "Pod":
            return [manifest["spec"]]
    return []
