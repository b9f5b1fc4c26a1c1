"""The examples of docs/kubernetes.md: plain files, and a chart that uses the library."""

import shutil
import tempfile

import yaml

import helm
import policy
import schemas
from helm import Case
from places import EXAMPLES, LIBRARY


def objects() -> list[tuple[str, dict]]:
    found = [
        (file.name, manifest)
        for file in sorted(EXAMPLES.glob("*.yaml"))
        for manifest in yaml.safe_load_all(file.read_text())
        if manifest
    ]
    for chart in sorted(EXAMPLES.glob("*/Chart.yaml")):
        with tempfile.TemporaryDirectory() as folder:
            # As `helm dependency update` would have it.
            copy = shutil.copytree(chart.parent, f"{folder}/chart")
            shutil.copytree(LIBRARY, f"{copy}/charts/{LIBRARY.name}")
            for program in helm.MAJORS:
                rendered = helm.template(program, Case("example"), copy)
                found += [(f"{chart.parent.name} ({program})", manifest) for manifest in rendered]
    return found


def findings() -> tuple[int, list[str]]:
    wrong = []
    found = objects()
    for file, manifest in found:
        what = schemas.findings(manifest)[1] + policy.findings(manifest, ours=False)
        wrong += [f"{file}: {helm.name(manifest)}: {one}" for one in what]
    return len(found), wrong or ([] if found else ["there are none"])
