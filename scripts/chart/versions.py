"""What must say the same in several files: the version, and options that stand in the environment."""

import re
import tomllib

import yaml

from places import CHART, EXAMPLES, LIBRARY, ROOT

CRATES = {
    "runcast-fanout": "sse-fanout", "runcast-control": "control-plane", "runcast-replay": "replay",
    "runcast-sidecar": "publisher-sidecar", "sample-agent": "publisher-sidecar",
}
OPTION = re.compile(r"\bRUNCAST__([A-Z_]+?)__([A-Z_]+)\b")
IMAGE = re.compile(r"\bruncast/([a-z-]+):(\d[\w.-]*)")


def options(crate: str) -> dict:
    return tomllib.loads((ROOT / f"crates/{crate}/src/default.toml").read_text())


def unknown(text: str, crate: str) -> list[str]:
    """Variables that are no options of a program."""
    known = options(crate)
    return [
        f"RUNCAST__{section}__{option} is no option of {crate}"
        for section, option in OPTION.findall(text)
        if option.lower() not in known.get(section.lower(), {})
    ]


def findings() -> list[str]:
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    wrong = []
    for chart in [CHART, LIBRARY]:
        said = yaml.safe_load((chart / "Chart.yaml").read_text())["appVersion"]
        if said != version:
            wrong.append(f"{chart.name}: appVersion {said} is not {version}")
    compose = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())
    for name, service in compose["services"].items():
        for program, _ in IMAGE.findall(service["image"]):
            wrong += [f"compose, {name}: {what}" for what in unknown(yaml.dump(service.get("environment", {})), CRATES[program])]
    texts = [ROOT / "docker/compose.yaml", ROOT / "docs/kubernetes.md", *LIBRARY.rglob("*.tpl"), *EXAMPLES.rglob("*.yaml")]
    for file in texts:
        text = file.read_text()
        wrong += [f"{file.name}: {program}:{said} is not {version}" for program, said in IMAGE.findall(text) if said != version]
        if file.parts[-2:] != ("docker", "compose.yaml"):
            wrong += [f"{file.name}: {what}" for what in unknown(text, "publisher-sidecar")]
    return wrong
