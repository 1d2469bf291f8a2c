#!/bin/sh
# Make .venv from the lock files, or leave it alone if it is already what they say.
#
# Needs python3 >= 3.11 with venv, and a package index reachable in whatever way pip and uv
# are configured here. Works in any folder, for any user; run it by `make install`.
set -eu
cd "$(dirname "$0")/.."

venv=.venv
python=$venv/bin/python

# Of the same version there may be two: distributions build theirs with the profiles of real
# programs, version managers often do not, and then everything costs half as much again.
find_quickest() {
    quickest=$1
    for other in /usr/bin/python3 /usr/local/bin/python3; do
        if [ -x "$other" ] && "$other" -c 'import ensurepip, venv' 2>/dev/null &&
            "$quickest" requirements/is_quicker.py "$other"; then
            quickest=$other
        fi
    done
    echo "$quickest"
}

find_python() {
    for name in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if command -v "$name" >/dev/null 2>&1 &&
            "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            if [ -n "${PYTHON:-}" ]; then command -v "$name"; else find_quickest "$(command -v "$name")"; fi
            return
        fi
    done
    echo "error: Python 3.11 or newer is needed (tried python3 and python3.11 to 3.14);" \
        "install it, or name it: make install PYTHON=/path/to/python3" >&2
    exit 1
}

# A venv holds its own path: in a moved folder it is made anew.
place=$(pwd)
wanted=$(cat requirements/develop.txt requirements/uv.txt pyproject.toml requirements/install.sh | cksum)
if [ -x "$python" ] && "$python" -c '' 2>/dev/null &&
    [ "$(cat $venv/.place 2>/dev/null)" = "$place" ]; then
    if [ "$(cat $venv/.installed 2>/dev/null)" = "$wanted" ]; then
        exit 0
    fi
    echo "bringing $venv up to date ..."
else
    echo "installing into $venv ..."
    if ! "$(find_python)" -m venv --clear $venv; then
        echo "error: could not make $venv (on Debian: apt install python3-venv)" >&2
        exit 1
    fi
    printf '%s\n' "$place" >$venv/.place
fi
rm -f $venv/.installed
# Nothing may ask for another Python, and a home that cannot be written is no obstacle.
export UV_PYTHON_DOWNLOADS=never
if [ ! -w "${HOME:-/nonexistent}" ] && [ -z "${UV_CACHE_DIR:-}${XDG_CACHE_HOME:-}" ]; then
    export UV_CACHE_DIR=$venv/.cache
fi
"$python" -m pip install --quiet --disable-pip-version-check --require-hashes \
    --requirement requirements/uv.txt
# Compiled once here: every start of the command is two seconds quicker for it.
"$venv/bin/uv" pip sync --quiet --python "$python" --require-hashes --compile-bytecode \
    requirements/develop.txt
# Editable, with the locked setuptools: nothing is resolved or fetched any more.
"$venv/bin/uv" pip install --quiet --python "$python" --no-deps --no-build-isolation --editable .
printf '%s\n' "$wanted" >$venv/.installed
