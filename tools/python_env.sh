#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# python_env.sh FOLDER REQUIREMENTS: a Python virtual environment with exactly what the file asks for. Does nothing,
# quickly, when it is there already and the file has not changed since.
set -euo pipefail
cd "$(dirname "$0")/.."
readonly folder=$1 requirements=$2
stamp="$folder/.installed"

if [ -x "$folder/bin/python" ] && cmp -s "$requirements" "$stamp"; then
  exit 0
fi
printf 'python: installing %s into %s\n' "$requirements" "$folder" >&2
rm -rf "$folder"
python3 -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check -r "$requirements"
cp "$requirements" "$stamp"
