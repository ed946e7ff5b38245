#!/bin/sh
# Prints the path of a Python that runs and is 3.11 or newer; the first of those listed wins.
# Each is tried by running it: a version manager's shim may be on PATH and not work.
set -eu

for name in python3.13 python3.12 python3.11 python3 python; do
  found=$("$name" -c 'import sys; sys.version_info >= (3, 11) and print(sys.executable)' \
    2>/dev/null) || continue
  if [ -n "$found" ]; then
    echo "$found"
    exit 0
  fi
done
echo "No Python 3.11 or newer on PATH. Install one, or name it: make PYTHON=/path/to/python" >&2
exit 1
