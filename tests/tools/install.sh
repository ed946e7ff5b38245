#!/bin/sh
# install.sh APT_PACKAGE [BREW_PACKAGE]: installs a system package with apt (as root, or through
# a sudo that asks nothing) or with brew; says what to do where neither works.
set -eu

apt_package=$1
brew_package=${2:-$1}

apt_install() {
  $1 env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
    "$apt_package" >&2
}

echo "Installing $apt_package ..." >&2
if command -v apt-get >/dev/null; then
  sudo=no
  if [ "$(id -u)" = 0 ]; then
    sudo=
  elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    sudo="sudo -n"
  fi
  if [ "$sudo" != no ]; then
    apt_install "$sudo" || { $sudo apt-get update >&2 && apt_install "$sudo"; }
    exit
  fi
  echo "Please run: sudo apt-get install $apt_package" >&2
elif command -v brew >/dev/null; then
  brew install "$brew_package" >&2
  exit
else
  echo "Please install $apt_package with your system's package manager." >&2
fi
exit 1
