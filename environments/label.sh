#!/usr/bin/env bash
# MONAI Label, and this project, in an environment of their own: MONAI Label needs numpy 1 and pydicom 2.
#
#   environments/label.sh VENV_DIR
#
# Safe to run again: what is there already is kept.
set -euo pipefail

venv=${1:?"usage: environments/label.sh VENV_DIR"}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

if [ ! -x "$venv/bin/python" ]; then
  echo "label: making $venv"
  python3 -m venv "$venv"
fi
install() { "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c "$here/label_pins.txt" "$@"; }

echo "label: installing torch 2.13.0"
install torch setuptools wheel

echo "label: installing MONAI Label 0.8.5; minutes"
SAM2_BUILD_CUDA=0 install --no-build-isolation monailabel monai pydicom pynetdicom dicomweb-client

echo "label: installing this project"
install -e "$here/.."

packages=$("$venv/bin/python" -c "import sysconfig; print(sysconfig.get_path('purelib'))")
cp "$here/torchvision_shim/sitecustomize.py" "$packages/"

"$venv/bin/python" -c "import monailabel, torchvision; print('label: ready, MONAI Label', monailabel.__version__)"
