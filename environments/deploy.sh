#!/usr/bin/env bash
# MONAI Deploy and this project in an environment of their own, and the DICOM checker `dciodvfy` of the tests.
#
#   environments/deploy.sh VENV_DIR
#
# Safe to run again: what is there already is kept. `dciodvfy` comes from the Debian package dicom3tools; where it is
# missing and cannot be installed without a password, the script says so and goes on.
set -euo pipefail

venv=${1:?"usage: environments/deploy.sh VENV_DIR"}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

if [ ! -x "$venv/bin/python" ]; then
  echo "deploy: making $venv"
  python3 -m venv "$venv"
fi
install() { "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c "$here/constraints.txt" "$@"; }

echo "deploy: installing torch"
install torch "setuptools<81" wheel

echo "deploy: installing MONAI Deploy's SDK 4.0.0 and what the bundles need; minutes"
install -r "$here/deploy/map/requirements.txt"

echo "deploy: installing this project"
install --no-deps --no-build-isolation -e "$here"

if ! command -v dciodvfy > /dev/null; then
  echo "deploy: installing dicom3tools"
  elevate=(env DEBIAN_FRONTEND=noninteractive)
  [ "$(id -u)" = 0 ] || elevate=(sudo -n "${elevate[@]}")
  if ! { "${elevate[@]}" apt-get update -qq && "${elevate[@]}" apt-get install -y -qq dicom3tools; } > /dev/null; then
    echo "deploy: dicom3tools could not be installed; the tests of the DICOM files need it" >&2
  fi
fi

"$venv/bin/python" -W ignore -c "import monai.deploy.core, common, monai; print('deploy: ready, MONAI', monai.__version__)"
