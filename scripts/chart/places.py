"""Where things are."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts/runcast"
LIBRARY = CHART / "charts/runcast-sidecar"
EXAMPLES = ROOT / "examples/kubernetes"
TOOLS = ROOT / "target/tools"
# The services' programs, for which configurations are meant.
PROGRAMS = Path(os.environ.get("RUNCAST_PROGRAMS", ROOT / "target/debug"))
