#!/usr/bin/env bash
# A headless browser for the tests of the report's viewer: environments/browser.sh DIR
#
# Chromium comes from the Debian package of its name, for the whole machine; DIR only holds the mark that it is there.
# Safe to run again. Where it is missing and cannot be installed without a password, the script says so and fails.
set -euo pipefail

place=${1:?"usage: environments/browser.sh DIR"}

if ! command -v chromium > /dev/null && ! command -v google-chrome > /dev/null; then
  echo "browser: installing chromium"
  elevate=(env DEBIAN_FRONTEND=noninteractive)
  [ "$(id -u)" = 0 ] || elevate=(sudo -n "${elevate[@]}")
  if ! { "${elevate[@]}" apt-get update -qq && "${elevate[@]}" apt-get install -y -qq --no-install-recommends chromium; } > /dev/null; then
    echo "browser: chromium could not be installed; the tests of the viewer need it" >&2
    exit 1
  fi
fi
mkdir -p "$place"
echo "browser: ready"
