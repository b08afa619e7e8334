#!/usr/bin/env bash
# compiler.sh TAR: what the stage `compiler` begins with, Debian's C++ compiler and the images' Python with its headers. Unpacked and
# not installed, as in base.sh.
set -euo pipefail
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:?}
mirror=${DEBIAN_MIRROR:-http://deb.debian.org}

mmdebstrap --quiet --mode=auto --variant=extract --format=tar \
  --include=base-files,g++,libpython3.13-dev,libpython3.13-stdlib,python3-minimal trixie "$1" \
  "deb $mirror/debian trixie main" "deb $mirror/debian trixie-updates main" "deb $mirror/debian-security trixie-security main"
