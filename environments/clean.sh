#!/usr/bin/env bash
# Makes a virtual environment that has MONAI and what the bundles' metadata.json require, but not this project.
set -euo pipefail
venv=${1:?usage: environments/clean.sh VENV_DIR}
here=$(cd "$(dirname "$0")/.." && pwd)

test -x "$venv/bin/python" || python3 -m venv "$venv"
required=$("$venv/bin/python" - "$here"/bundles/*/configs/metadata.json <<'PYTHON'
import json
import sys

facts = [json.load(open(file, encoding="utf-8")) for file in sys.argv[1:]]
pins = {("monai", each["monai_version"]) for each in facts} | {("numpy", each["numpy_version"]) for each in facts}
pins |= {pin for each in facts for pin in each["required_packages_version"].items()}
print(*sorted(f"{name}=={version}" for name, version in pins))
PYTHON
)
pip() { "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@"; }
pip -c "$here/constraints.txt" torch
# As a consumer does it: these versions, whatever the project is tested with on this Python.
# shellcheck disable=SC2086
pip fire pyyaml $required
echo "made $venv: MONAI and $required"
