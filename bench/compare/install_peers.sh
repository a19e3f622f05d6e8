#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs the programs that compare.py runs Octet beside into a folder of their own, which must lie outside of this
# repository: nothing of them is part of Octet. What is there already is left as it is. llama.cpp is compiled for this
# machine's own processor, which takes several minutes and needs a C++ compiler.
#
#   bench/compare/install_peers.sh FOLDER [torch] [llama.cpp]        both unless told
set -euo pipefail

readonly TORCH=2.15.0 LLAMA=0.3.36 GGUF=0.19.0
[ $# -ge 1 ] || { echo "usage: $0 FOLDER [torch] [llama.cpp]" >&2; exit 2; }
mkdir -p "$1"
folder=$(cd "$1" && pwd)
repository=$(cd "$(dirname "$0")/../.." && pwd)
case "$folder/" in
  "$repository"/*) echo "$0: $folder lies inside the repository; choose a folder outside of it" >&2; exit 2 ;;
esac
shift
[ $# -gt 0 ] || set -- torch llama.cpp
for peer in "$@"; do
  case "$peer" in torch | llama.cpp) ;; *) echo "$0: unknown peer '$peer': torch or llama.cpp" >&2; exit 2 ;; esac
done

readonly python="$folder/venv/bin/python"
[ -x "$python" ] || python3 -m venv "$folder/venv"

installed() { # PACKAGE VERSION
  "$python" -c "
import sys
from importlib.metadata import PackageNotFoundError, version
try:
    sys.exit(version(sys.argv[1]).split('+')[0] != sys.argv[2])
except PackageNotFoundError:
    sys.exit(1)" "$1" "$2"
}

install() { # PACKAGE VERSION [PIP OPTION...]
  local package=$1 version=$2
  shift 2
  if installed "$package" "$version"; then
    echo "there already: $package $version"
  else
    "$python" -m pip install --quiet --disable-pip-version-check "$@" "$package==$version"
    echo "installed: $package $version"
  fi
}

for peer in "$@"; do
  case "$peer" in
    torch)
      install torch "$TORCH"
      install numpy 2.4.6 ;;
    llama.cpp)
      # Without the cache, whose wheel may have been built with other arguments or for another processor. g++ takes the
      # stores that set the tile registers up for dead (llama.cpp's issue 20824): with AMX, Q8_0 then ends in a fault.
      CMAKE_ARGS="-DGGML_NATIVE=ON -DCMAKE_CXX_FLAGS='-fno-tree-dse -fno-dse'" install llama-cpp-python "$LLAMA" --no-binary llama-cpp-python --no-cache-dir
      install gguf "$GGUF" ;;
  esac
done
echo "ready: $python"
