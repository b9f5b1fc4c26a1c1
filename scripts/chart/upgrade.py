"""Upgrades: what a release of the chart before cannot become."""

import io
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import yaml

from helm import Case, name, template
from places import CHART, ROOT

# What the API server refuses to change, by kind.
FIXED = {
    "Deployment": ["selector"],
    "StatefulSet": ["selector", "serviceName", "podManagementPolicy", "volumeClaimTemplates"],
    "PersistentVolumeClaim": ["accessModes", "storageClassName", "volumeName"],
    "Service": ["clusterIP"],
}


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def previous() -> tuple[str, str] | None:
    """The newest commit with another version of the chart, or else the one before the last that changed it."""
    path = str(CHART.relative_to(ROOT))
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["version"]
    commits = git("log", "--format=%H", "--", path).split()
    for commit in commits:
        try:
            before = yaml.safe_load(git("show", f"{commit}:{path}/Chart.yaml"))["version"]
        except subprocess.CalledProcessError:
            continue
        if before != version:
            return commit, before
    return (commits[1], f"{version} as of {commits[1][:9]}") if len(commits) > 1 else None


def unpacked(commit: str, folder: Path) -> Path:
    """The chart as it was."""
    archive = subprocess.run(
        ["git", "archive", commit, str(CHART.relative_to(ROOT))], cwd=ROOT, capture_output=True, check=True
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
    return folder / CHART.relative_to(ROOT)


def changed(before: list[dict], after: list[dict]) -> list[str]:
    """What an upgrade would be refused for."""
    old = {name(manifest): manifest for manifest in before}
    wrong = []
    for manifest in after:
        if not (was := old.get(name(manifest))):
            continue
        for field in FIXED.get(manifest["kind"], []):
            if was["spec"].get(field) != manifest["spec"].get(field):
                wrong.append(f"{name(manifest)}: spec.{field} changes, which the API server refuses")
        if manifest["kind"] == "Secret" and was.get("type") != manifest.get("type"):
            wrong.append(f"{name(manifest)}: its type changes")
    return wrong


def restarted(case: Case) -> list[str]:
    """Workloads that a new version of the chart would start anew though nothing of them changes."""
    with tempfile.TemporaryDirectory() as folder:
        newer = Path(shutil.copytree(CHART, f"{folder}/runcast"))
        file = newer / "Chart.yaml"
        file.write_text(file.read_text().replace("\nversion: ", "\nversion: 9"))
        pods = lambda chart: {
            name(one): one["spec"]["template"] for one in template("helm", case, chart) if one["kind"] in FIXED and "template" in one["spec"]
        }
        before, after = pods(CHART), pods(newer)
        return [f"{one} is started anew by another version of the chart" for one in before if before[one] != after[one]]


def findings(cases: list[Case]) -> tuple[str, int, list[str]]:
    """From which version, how many combinations, and what is wrong."""
    restarts = [what for case in cases[:1] for what in restarted(case)]
    found = previous()
    if not found:
        return "none", 0, restarts
    commit, version = found
    with tempfile.TemporaryDirectory() as folder:
        chart = unpacked(commit, Path(folder))
        wrong = restarts
        for case in cases:
            was = template("helm", case, chart)
            wrong += [f"{case.name}: {what}" for what in changed(was, template("helm", case))]
    return version, len(cases), wrong
