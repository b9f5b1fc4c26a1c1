#!/usr/bin/env bash
# Checks alerts and dashboards: promtool's tests, a runbook and two tests for each alert, and metrics that
# the services really have.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly rules=charts/runcast/rules tests=charts/runcast/tests/alerts dashboards=charts/runcast/dashboards
failed=0
wrong() { echo "alert-test: $*" >&2; failed=1; }

promtool check rules --lint=all --lint-fatal "$rules"/*.yaml >/dev/null
promtool test rules "$tests"/*.yaml

alerts=$(sed -n 's/^ *- alert: //p' "$rules"/*.yaml | sort)
runbooks=$(basename -s .md docs/runbooks/*.md | grep -v '^README$' | sort)
for alert in $(comm -23 <(echo "$alerts") <(echo "$runbooks")); do wrong "$alert has no page in docs/runbooks"; done
for page in $(comm -13 <(echo "$alerts") <(echo "$runbooks")); do wrong "docs/runbooks/$page.md is of no alert"; done
for alert in $alerts; do
  for case in "fires" "is silent"; do
    grep -qx -- "  - name: $alert $case" "$tests"/*.yaml || wrong "no test in $tests says that $alert $case"
  done
  grep -qF "($alert.md)" docs/runbooks/README.md || wrong "docs/runbooks/README.md does not name $alert"
done

# A test of the workspace holds this page to the code.
metrics=$(grep -hoE '\b(runcast|rpc)_[a-z_]+' "$rules"/*.yaml "$dashboards"/*.json | sed 's/_bucket$//' | sort -u)
for metric in $metrics; do
  grep -qF "\`$metric\`" docs/observability.md || wrong "docs/observability.md knows no metric $metric"
done

echo "alert-test: $(wc -w <<<"$alerts") alerts, $(grep -c '^  - name: ' "$tests"/*.yaml | awk -F: '{n += $2} END {print n}') tests," \
  "$(wc -w <<<"$runbooks") runbooks, $(wc -w <<<"$metrics") metrics"
exit "$failed"
