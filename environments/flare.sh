#!/usr/bin/env bash
# NVIDIA FLARE with MONAI, in an environment of its own: environments/flare.sh VENV_DIR
set -euo pipefail

venv="${1:?usage: environments/flare.sh VENV_DIR}"
root="$(cd "$(dirname "$0")/.." && pwd)"

install() {
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
}

if [ ! -x "$venv/bin/python" ]; then
  echo "flare: creating $venv"
  python3 -m venv "$venv"
fi
echo "flare: installing torch"
install torch==2.13.0
echo "flare: installing NVIDIA FLARE and this project with MONAI"
install -c "$root/constraints.txt" nvflare==2.9.0 -e "$root"
# It asks for FLARE 2.7, and runs with 2.9 (tests/interop/test_federated.py): hence without its requirements.
install --no-deps monai-nvflare==0.4.0
"$venv/bin/python" -c "import common, monai_nvflare, nvflare; print('flare: ready, NVIDIA FLARE', nvflare.__version__)"
