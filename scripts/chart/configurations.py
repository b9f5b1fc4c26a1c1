"""Configuration files as rendered, given to the real programs: they refuse what they do not know."""

import os
import re
import subprocess
import tempfile
import time
from pathlib import Path

from places import PROGRAMS

# In the pods, the ConfigMap's entry and these folders are mounted below it.
MOUNTS = "/etc/runcast/"
BAD_CONFIGURATION = 78


def programs_are_there() -> bool:
    return all((PROGRAMS / name).exists() for name in ["runcast-fanout", "runcast-control", "runcast-replay"])


def of(manifests: list[dict]) -> list[tuple[str, str]]:
    """Programs, and what their files say."""
    return [
        (file.removesuffix(".toml"), text)
        for manifest in manifests
        if manifest["kind"] == "ConfigMap"
        for file, text in manifest["data"].items()
        if file.startswith("runcast-") and file.endswith(".toml")
    ]


def certificates(folder: Path) -> None:
    """The files that a configuration may name, with what a program accepts."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
         "-subj", "/CN=test", "-addext", "subjectAltName=DNS:localhost",
         "-keyout", folder / "tls.key", "-out", folder / "tls.crt"],
        check=True, capture_output=True,
    )
    (folder / "ca.crt").write_bytes((folder / "tls.crt").read_bytes())
    (folder / "secret").write_text("s" * 48)
    public = subprocess.run(
        ["openssl", "x509", "-in", folder / "tls.crt", "-noout", "-pubkey"], check=True, capture_output=True
    )
    (folder / "public-key").write_bytes(public.stdout)
    (folder / "jwks").write_text('{"keys":[]}')


def finding(program: str, text: str) -> str | None:
    """Starts a program with a configuration until it listens; what it says if it refuses."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        certificates(folder)
        # All its files in one folder, and ports that are free.
        text = re.sub(rf"{MOUNTS}[a-z-]+/", f"{folder}/", text)
        text = text.replace("file:///var/lib/runcast/archive", f"file://{folder}")
        text = re.sub(r'"0\.0\.0\.0:\d+"', '"127.0.0.1:0"', text)
        # There is no Redis, and no collector.
        text = re.sub(r'(url = "[a-z-]+://)rc-runcast[^"?]*', r"\g<1>127.0.0.1:1", text)
        text = re.sub(r"node=rc-runcast[^&\"]*", "node=127.0.0.1:1", text)
        file = folder / "config.toml"
        file.write_text(text)
        log = folder / "log"
        environment = {"PATH": os.environ["PATH"], "HOME": name, "AWS_ACCESS_KEY_ID": "test",
                       "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "test",
                       "RUNCAST__REDIS__USERNAME": "test", "RUNCAST__REDIS__PASSWORD": "test"}
        with log.open("wb") as output:
            process = subprocess.Popen(
                [PROGRAMS / program, "--config", file], env=environment, stdout=output, stderr=output
            )
        try:
            return until_it_serves(process, log)
        finally:
            process.kill()
            process.wait()


def until_it_serves(process: subprocess.Popen, log: Path) -> str | None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if "serving" in log.read_text():
            return None
        if process.poll() is not None:
            return f"exit status {process.returncode}: {log.read_text()[-600:]}"
        time.sleep(0.02)
    return f"does not serve after 10 s: {log.read_text()[-600:]}"
