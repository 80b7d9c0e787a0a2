#!/usr/bin/python3
"""Checks what is in packaging/monitoring with Prometheus's promtool.

The alerts pass their unit tests, and each expression of the dashboard is one that
Prometheus reads. A test of bw-cli checks that the scanner exports every metric that
they name.
Usage: scripts/monitoring.py
"""

import json
import pathlib
import subprocess
import sys
import tempfile

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "packaging/monitoring"


def promtool(*arguments, cwd=FOLDER):
    subprocess.run(["promtool", *map(str, arguments)], check=True, cwd=cwd)


def expressions(panels):
    """Each expression of the dashboard with the title of its panel."""
    for panel in panels:
        yield from expressions(panel.get("panels", []))
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"].replace("$job", "bwscan")


def main():
    promtool("check", "rules", "alerts.yml")
    promtool("test", "rules", "alerts_test.yml")
    dashboard = json.loads((FOLDER / "dashboard.json").read_text())
    rules = [
        {"record": f"panel:{number}", "labels": {"panel": title}, "expr": expression}
        for number, (title, expression) in enumerate(expressions(dashboard["panels"]))
    ]
    if not rules:
        sys.exit("monitoring: the dashboard shows nothing")
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "dashboard.yml")
        # JSON is YAML.
        path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
        promtool("check", "rules", path)


main()
