#!/usr/bin/env bash
# The archive of the tests of the DICOM service: Orthanc with DICOMweb and its web viewer, from Debian's packages. Makes FOLDER, which stays
# empty: the service itself runs in .venv.
#
#   environments/pacs.sh FOLDER
#
# Where a package is missing and cannot be installed without a password, the script says so and goes on.
set -euo pipefail

folder=${1:?"usage: environments/pacs.sh FOLDER"}
mkdir -p "$folder"
plugins=/usr/share/orthanc/plugins
if ! command -v /usr/sbin/Orthanc > /dev/null || [ ! -e "$plugins/libOrthancDicomWeb.so" ] ||
  [ ! -e "$plugins/libOrthancWebViewer.so" ] || ! command -v dciodvfy > /dev/null; then
  echo "pacs: installing orthanc, orthanc-dicomweb, orthanc-webviewer and dicom3tools"
  elevate=(env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1)  # Orthanc shall not start as a service
  [ "$(id -u)" = 0 ] || elevate=(sudo -n "${elevate[@]}")
  packages=(orthanc orthanc-dicomweb orthanc-webviewer dicom3tools)
  if ! { "${elevate[@]}" apt-get update -qq && "${elevate[@]}" apt-get install -y -qq "${packages[@]}"; } > /dev/null; then
    echo "pacs: Orthanc could not be installed; the tests of the DICOM service need it" >&2
  fi
fi
echo "pacs: ready"
