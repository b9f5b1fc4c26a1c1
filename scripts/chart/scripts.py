"""The shell scripts that run in Redis' pods."""

import subprocess

from places import CHART, TOOLS


def findings() -> list[str]:
    folder = CHART / "files/redis"
    result = subprocess.run(
        [TOOLS / "shellcheck", "--external-sources", "--shell=sh", "--format=gcc", *sorted(p.name for p in folder.glob("*.sh"))],
        cwd=folder, capture_output=True, text=True, check=False,
    )
    return result.stdout.splitlines()
