"""Makes values.schema.json, and the README's table, from the chart's values.yaml; with --check, only says whether they are so."""

import json
import sys
import tomllib

import values
from places import CHART, ROOT

BEGIN, END = "<!-- values -->\n", "<!-- /values -->\n"


def generated() -> dict:
    """What the files should be, by their paths."""
    described = values.read(CHART / "values.yaml")
    definitions = {
        f"config-{crate}": values.options_schema(
            tomllib.loads((ROOT / f"crates/{crate}/src/default.toml").read_text())
        )
        for crate in ["sse-fanout", "control-plane", "replay"]
    }
    schema = values.schema_of(described, definitions)
    readme = (CHART / "README.md").read_text()
    head, rest = readme.split(BEGIN)
    _, tail = rest.split(END)
    return {
        CHART / "values.schema.json": json.dumps(schema, indent=1, ensure_ascii=False) + "\n",
        CHART / "README.md": head + BEGIN + values.table(described) + END + tail,
    }


def drifted() -> list[str]:
    """Files that are not what they should be."""
    return [
        str(path.relative_to(ROOT))
        for path, text in generated().items()
        if not path.exists() or path.read_text() != text
    ]


def main() -> int:
    if "--check" in sys.argv:
        for path in drifted():
            print(f"{path} is not up to date: make chart-docs", file=sys.stderr)
        return bool(drifted())
    for path, text in generated().items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
