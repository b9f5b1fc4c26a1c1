"""`make chart-test`: renders the chart with many values, with both majors of Helm, and looks at all that comes out."""

import itertools
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

import cel
import configurations
import docs
import examples
import helm
import policy
import refusals
import schemas
import scripts
import server
import upgrade
import versions
from helm import Case
from places import CHART, LIBRARY

CI = CHART / "ci"


def files(pattern: str) -> list[Path]:
    return sorted(CI.glob(pattern))


def matrix() -> list[Case]:
    """Each topology × each way of TLS × each set of options."""
    return [
        Case(" ".join(file.stem for file in chosen), chosen)
        for chosen in itertools.product(files("topology-*.yaml"), files("tls-*.yaml"), files("options-*.yaml"))
    ]


class Report:
    """Counts and findings, told as they come."""

    def __init__(self) -> None:
        self.findings: list[str] = []
        self.passed = 0
        self.begun = time.monotonic()

    def section(self, what: str, wrong: list[str]) -> None:
        shown = list(dict.fromkeys(wrong))
        self.findings += shown
        self.passed += not shown
        print(f"{'ok    ' if not shown else 'WRONG '} {time.monotonic() - self.begun:5.1f} s  {what}", flush=True)
        for finding in shown[:20]:
            print(f"         {finding}")
        if len(shown) > 20:
            print(f"         … and {len(shown) - 20} more")


def rendered(program: str, case: Case) -> tuple[list[dict], list[str]]:
    try:
        return helm.template(program, case), []
    except helm.Refused as error:
        return [], [f"{case.name} ({program}): {error}"]


def lint(program: str) -> list[str]:
    wrong = []
    for options in files("options-*.yaml"):
        try:
            helm.run(program, "lint", "--strict", CHART, "--values", options)
        except helm.Refused as error:
            wrong.append(f"{options.name}: {error}")
    return wrong


def package(program: str) -> list[str]:
    """Packs the chart and its library, and renders what was packed."""
    with tempfile.TemporaryDirectory() as folder:
        for chart in [CHART, LIBRARY]:
            helm.run(program, "package", chart, "--destination", folder)
        packed = next(Path(folder).glob("runcast-0*.tgz"))
        return [] if helm.template(program, Case("packed"), packed) else ["the package renders nothing"]


def main() -> int:
    report = Report()
    report.section("README's table and values.schema.json are as values.yaml says", docs.drifted())
    report.section("versions, and options in examples and compose.yaml", versions.findings())
    report.section("shell scripts (shellcheck)", scripts.findings())
    for program in helm.MAJORS:
        report.section(f"lint --strict and package with {program}", lint(program) + package(program))

    cases = matrix()
    manifests: dict[str, dict] = {}
    texts: dict[tuple[str, str], str] = {}
    total, wrong, related = 0, [], []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        work = list(itertools.product(helm.MAJORS, cases))
        for (program, case), (objects, refused) in zip(work, pool.map(lambda job: rendered(*job), work), strict=True):
            total += len(objects)
            wrong += refused
            related += [f"{case.name}: {what}" for what in policy.of_release(objects)]
            manifests |= {helm.digest(manifest): manifest for manifest in objects}
            texts |= {configuration: case.name for configuration in configurations.of(objects)}
    report.section(f"{len(cases)} combinations of values rendered by each of {len(helm.MAJORS)} majors: {total} objects", wrong)
    report.section("objects fit together", related)

    validated, wrong = 0, []
    for manifest in manifests.values():
        count, found = schemas.findings(manifest)
        validated += count
        wrong += [f"{helm.name(manifest)}: {what}" for what in found]
    report.section(
        f"{len(manifests)} different objects against the API's schemas ({', '.join(schemas.VERSIONS)}): {validated} validations",
        wrong,
    )
    inspected = [manifest for manifest in manifests.values() if helm.pods(manifest)]
    wrong = [f"{helm.name(m)}: {what}" for m in manifests.values() for what in policy.findings(m)]
    report.section(f"{len(inspected)} different workloads against the restricted profile and our own rules", wrong)

    cases_refused, wrong = refusals.findings()
    report.section(f"{cases_refused} bad values refused by both majors, each with its name", wrong)
    count, wrong = cel.findings(list(manifests.values()))
    report.section(f"{count} expressions of the sidecar's policy parsed, and carried out on pods", wrong)
    count, wrong = examples.findings()
    report.section(f"examples: {count} objects", wrong)
    version, count, wrong = upgrade.findings([c for c in cases if "options-minimal" in c.name])
    report.section(f"upgrade from the chart before ({version}): {count} combinations", wrong)
    report.section("a second `helm upgrade` keeps passwords, keys and certificates", server.findings())

    if configurations.programs_are_there():
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            answers = pool.map(lambda one: configurations.finding(*one), texts)
            wrong = [f"{program} ({texts[program, text]}): {answer}"
                     for (program, text), answer in zip(texts, answers, strict=True) if answer]
        report.section(f"{len(texts)} different configurations accepted by the real programs", wrong)
    else:
        print("skipped          configurations: there are no programs (make bins)")

    print(f"chart-test: {report.passed} passed, {len(report.findings)} failed")
    return bool(report.findings)


if __name__ == "__main__":
    sys.exit(main())
