#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what building and testing Octet needs on Debian or Ubuntu: distribution packages (through sudo when not
# root) and a Rust toolchain. Does nothing, quickly, when all of it is there.
set -euo pipefail

readonly RUST_MINIMUM=1.88
packages=(build-essential cmake ninja-build ccache git pkg-config python3 python3-dev python3-venv python3-numpy
  nlohmann-json3-dev libcli11-dev libssl-dev libgtest-dev libgmock-dev libsimde-dev openmpi-bin libopenmpi-dev)

say() { printf 'setup: %s\n' "$*" >&2; }

as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif command -v sudo > /dev/null; then
    sudo "$@"
  else
    say "not root and no sudo: run as root: $*"
    exit 1
  fi
}

have_package() { dpkg-query -W -f='${Status}' "$1" 2> /dev/null | grep -q 'install ok installed'; }

apt_updated=no
apt_install() {
  if [ "$apt_updated" = no ]; then
    as_root apt-get update -qq
    apt_updated=yes
  fi
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" > /dev/null
}

install_packages() {
  local missing=()
  for package in "${packages[@]}"; do
    have_package "$package" || missing+=("$package")
  done
  [ "${#missing[@]}" -eq 0 ] && return
  if ! command -v apt-get > /dev/null; then
    say "this is not Debian or Ubuntu; install the equivalents of: ${missing[*]}"
    exit 1
  fi
  say "installing ${missing[*]}"
  apt_install "${missing[@]}"
}

# True when "$1" (a version like 1.96.0) is at least RUST_MINIMUM.
recent_enough() { [ "$(printf '%s\n%s\n' "$RUST_MINIMUM" "$1" | sort -V | head -n 1)" = "$RUST_MINIMUM" ]; }

have_rust() {
  command -v cargo > /dev/null && command -v rustc > /dev/null && recent_enough "$(rustc --version | awk '{print $2}')"
}

# The name of the packaged cargo with the newest version, if it is recent enough.
packaged_cargo() {
  local best='' best_version=0 name version
  for name in $(apt-cache pkgnames cargo | grep -E '^cargo(-web|-[0-9.]+)?$'); do
    version=$(apt-cache policy "$name" | awk '/Candidate:/ {print $2}' | sed -E 's/^[0-9]+://; s/[^0-9.].*//')
    [ -n "$version" ] || continue
    if [ "$(printf '%s\n%s\n' "$best_version" "$version" | sort -V | tail -n 1)" = "$version" ]; then
      best=$name best_version=$version
    fi
  done
  [ -n "$best" ] && recent_enough "$best_version" && echo "$best"
}

install_rust() {
  have_rust && return
  [ "$apt_updated" = yes ] || { as_root apt-get update -qq; apt_updated=yes; }
  local cargo
  if cargo=$(packaged_cargo); then
    say "installing $cargo"
    apt_install "$cargo" "${cargo/cargo/rustc}"
    if ! have_rust; then  # packages of several versions carry their number in the program's name
      as_root ln -sf "/usr/bin/$cargo" /usr/local/bin/cargo
      as_root ln -sf "/usr/bin/${cargo/cargo/rustc}" /usr/local/bin/rustc
    fi
  else
    say "no packaged Rust is $RUST_MINIMUM or later: installing one with rustup"
    have_package curl || apt_install curl ca-certificates
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal --no-modify-path
    as_root ln -sf "$HOME/.cargo/bin/cargo" /usr/local/bin/cargo
    as_root ln -sf "$HOME/.cargo/bin/rustc" /usr/local/bin/rustc
  fi
  have_rust || { say "Rust $RUST_MINIMUM or later is still missing"; exit 1; }
}

install_packages
install_rust
