#!/usr/bin/env bash
# base.sh TAR: the base of all images from Debian's packages; the same packages give the same bytes.
# Nothing is installed: packages are unpacked and no script of theirs runs, so neither dpkg, apt, perl nor a shell has to be there.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
# Files of a layer have this time; later times are set back to it.
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:?}
mirror=${DEBIAN_MIRROR:-http://deb.debian.org}

# libpython: Envoy loads it at the door. libstdc++: what compiled wheels expect of every Linux. netbase: names of protocols.
mmdebstrap --quiet --mode=auto --variant=extract --format=tar \
  --include=base-files,ca-certificates,catatonit,libpython3.13,libpython3.13-stdlib,libstdc++6,python3-minimal \
  --extract-hook="$here/unpacked.sh \"\$1\"" trixie "$1" \
  "deb $mirror/debian trixie main" "deb $mirror/debian trixie-updates main" "deb $mirror/debian-security trixie-security main"
