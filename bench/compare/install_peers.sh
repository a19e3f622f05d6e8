#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs the programs that compare.py runs Octet beside into a folder of their own, which must lie outside of this
# repository: nothing of them is part of Octet.
#
#   bench/compare/install_peers.sh FOLDER
set -euo pipefail

readonly TORCH=2.15.0
[ $# -eq 1 ] || { echo "usage: $0 FOLDER" >&2; exit 2; }
mkdir -p "$1"
folder=$(cd "$1" && pwd)
repository=$(cd "$(dirname "$0")/../.." && pwd)
case "$folder/" in
  "$repository"/*) echo "$0: $folder lies inside the repository; choose a folder outside of it" >&2; exit 2 ;;
esac

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "torch==$TORCH" numpy
echo "installed: $folder/venv/bin/python (torch $TORCH)"
