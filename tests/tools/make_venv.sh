#!/bin/sh
# make_venv.sh PYTHON FOLDER: makes a virtual environment with pip in it.
# Debian and Ubuntu keep what that needs in a package of its own, which is installed when missing.
set -eu

python=$1
folder=$2

if [ -z "$python" ]; then
  exit 1 # find_python.sh has said why
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
  echo "$python is not a Python 3.11 or newer." >&2
  exit 1
fi
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  version=$("$python" -c 'import sys; print("{}.{}".format(*sys.version_info))')
  sh "$(dirname "$0")/install.sh" "python$version-venv" "python@$version"
fi
if [ -e "$folder/pyvenv.cfg" ]; then
  rm -rf "$folder" # a broken one, such as after the system's Python moved on
fi
"$python" -m venv "$folder"
