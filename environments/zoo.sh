#!/usr/bin/env bash
# What the Model Zoo's own checks need beside MONAI: its formatters, and whether the pins exist for its Python.
#
#   environments/zoo.sh VENV_DIR
set -euo pipefail

venv=${1:?"usage: environments/zoo.sh VENV_DIR"}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

test -x "$venv/bin/python" || python3 -m venv "$venv"
pip() { "$venv/bin/python" -m pip "$@" --quiet --disable-pip-version-check; }
pip install black==26.10.1 isort==9.0.2 flake8==7.5.0 flake8-bugbear==26.10.27 flake8-comprehensions==3.17.0 \
  flake8-executable==2.1.3 pep8-naming==0.15.1

# The Zoo installs the bundles' pins with Python 3.10: find them, install nothing, and note what was found.
"$venv/bin/python" - "$here"/bundles/*/configs/metadata.json > "$venv/requirements.txt" <<'PYTHON'
import json
import sys

pins = set()
for file in sys.argv[1:]:
    facts = json.load(open(file, encoding="utf-8"))
    versions = {"monai": facts["monai_version"], "torch": facts["pytorch_version"], "numpy": facts["numpy_version"]}
    pins |= {f"{name}=={version}" for name, version in (versions | facts["required_packages_version"]).items()}
print(*sorted(pins), sep="\n")
PYTHON
pip install --dry-run --ignore-installed --no-deps --python-version 3.10 --only-binary :all: \
  --target "$venv/python3.10" --requirement "$venv/requirements.txt" --report "$venv/found.json"
echo "zoo: ready, $("$venv/bin/black" --version | head -1)"
