#!/usr/bin/env bash
# Makes a virtual environment that has MONAI and what the bundles' metadata.json require, but not this project.
set -euo pipefail
venv=${1:?usage: environments/clean.sh VENV_DIR}
here=$(cd "$(dirname "$0")/.." && pwd)

test -x "$venv/bin/python" || python3 -m venv "$venv"
required=$("$venv/bin/python" - "$here"/bundles/*/configs/metadata.json <<'PYTHON'
import json
import sys

print(*sorted({f"{k}=={v}" for file in sys.argv[1:] for k, v in json.load(open(file))["required_packages_version"].items()}))
PYTHON
)
pip() { "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c "$here/constraints.txt" "$@"; }
pip torch
# shellcheck disable=SC2086
pip monai fire pyyaml $required
echo "made $venv: MONAI and $required"
