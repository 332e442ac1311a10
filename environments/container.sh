#!/usr/bin/env bash
# Builds the images of the Containerfile, without a registry of images: on a Debian base made by debootstrap.
#
#   environments/container.sh FOLDER
#
# Makes FOLDER/wheels/service, FOLDER/wheels/label and FOLDER/base.tar, and the images in FOLDER/store. FOLDER lies
# below this project: build/container, as .dockerignore says. PYTHON is a Python 3.11, as the base has; needs root. Safe
# to run again: what is there already is kept, but for the wheel of this project and the images.
set -euo pipefail

folder=${1:?"usage: environments/container.sh FOLDER"}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
tools=$folder/tools

if ! command -v buildah > /dev/null || ! command -v debootstrap > /dev/null; then
  echo "container: installing buildah and debootstrap"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends buildah debootstrap > /dev/null
fi

if [ ! -e "$folder/base.tar" ]; then
  echo "container: making a Debian base; minutes"
  rm -rf "$folder/root"
  debootstrap --variant=minbase bookworm "$folder/root" > "$folder/debootstrap.log"
  cp "$folder/root/etc/debian_version" "$folder/debian_version"
  tar -C "$folder/root" --exclude='./var/cache/apt/archives/*.deb' --exclude='./dev/*' -cf "$folder/base.part" .
  rm -rf "$folder/root"
  mv "$folder/base.part" "$folder/base.tar"
fi

wheel() { "$tools/bin/python" -m pip wheel --quiet --disable-pip-version-check "$@"; }
if [ ! -e "$folder/wheels/ready" ]; then
  python=${PYTHON:-python3}
  "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "container: PYTHON must be a Python 3.11")'
  echo "container: gathering the wheels; minutes"
  "$python" -m venv "$tools"
  "$tools/bin/python" -m pip install --quiet --disable-pip-version-check -c "$here/constraints.txt" torch setuptools wheel
  wheel -c "$here/constraints.txt" --wheel-dir "$folder/wheels/service" torch
  wheel -c "$here/constraints.txt" --find-links "$folder/wheels/service" --wheel-dir "$folder/wheels/service" \
    "$here[pacs]"
  cd "$folder"  # `pip wheel` takes a folder of this name for the package
  SAM2_BUILD_CUDA=0 wheel -c "$here/environments/label_pins.txt" --find-links "$folder/wheels/service" \
    --no-build-isolation --wheel-dir "$folder/wheels/label" torch monailabel "$here" pynetdicom dicomweb-client
  touch "$folder/wheels/ready"
fi
wheel --no-deps --no-build-isolation --wheel-dir "$folder/wheels/service" "$here"
cp "$folder"/wheels/service/monai_translation_bundles-*.whl "$folder/wheels/label/"
rm -rf "$here/build/lib" "$here"/build/bdist.*

build() { buildah --root "$folder/store" --runroot "$folder/run" --storage-driver overlay bud --isolation chroot "$@"; }
echo "container: building the images; minutes"
build --quiet --tag debian-base --file - "$folder" <<< $'FROM scratch\nADD base.tar /' > /dev/null
cd "$here"
for name in service label; do
  build --layers --target "$name" --build-arg BASE=localhost/debian-base \
    --build-arg "WHEELS=$(realpath --relative-to "$here" "$folder/wheels")" --tag "translation-$name" . > "$folder/$name.log"
done
echo "container: ready, images of $(ls "$folder/wheels/service" | wc -l) and $(ls "$folder/wheels/label" | wc -l) wheels"
