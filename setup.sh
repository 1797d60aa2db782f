#!/bin/sh
# Installs what is missing: system packages by apt where it may, the rest into .venv from the lock.
# FBT_PYTHON chooses the Python; otherwise the newest of 3.11, 3.12 and 3.13 that is there.
set -eu
cd "$(dirname "$0")"

say() { printf '  … %s\n' "$1"; }

usable_python() {
    for candidate in ${FBT_PYTHON:-} python3.13 python3.12 python3.11 python3; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
            >/dev/null 2>&1; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return
        fi
    done
}

has_headers() {
    "$1" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")))'
}

has_java() {
    command -v java >/dev/null 2>&1 || return 1
    major=$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1)
    [ "${major:-0}" -ge 17 ]
}

# The newest runtime that this Debian or Ubuntu has.
java_package() {
    for release in 21 25 17; do
        if apt-cache show "openjdk-$release-jre-headless" >/dev/null 2>&1; then
            echo "openjdk-$release-jre-headless"
            return
        fi
    done
    echo default-jre-headless
}

python=$(usable_python)
if [ -z "$python" ]; then
    echo 'fbt needs Python 3.11, 3.12 or 3.13 and found none; install one, or name it by FBT_PYTHON' >&2
    exit 1
fi
short=$("$python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')

apt_names='' dnf_names='' brew_names=''
need() { apt_names="$apt_names $1" dnf_names="$dnf_names $2" brew_names="$brew_names $3"; }
has_java || need JAVA java-21-openjdk-headless openjdk@21
command -v c++ >/dev/null 2>&1 || need g++ gcc-c++ gcc
has_headers "$python" || need "$short-dev" "$short-devel" "$short"
"$python" -c 'import ensurepip, venv' >/dev/null 2>&1 || need "$short-venv" "$short" "$short"

if [ -n "$apt_names" ]; then
    if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
        say 'apt-get update'
        apt-get update -q >/dev/null
        names=$(echo "$apt_names" | sed "s/JAVA/$(java_package)/")
        say "apt-get install$names"
        # shellcheck disable=SC2086 # a list of names
        DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $names >/dev/null
    else
        echo 'fbt needs a few system packages first. Install them by one of:' >&2
        echo "  sudo apt-get install$(echo "$apt_names" | sed 's/JAVA/openjdk-17-jre-headless/')" >&2
        echo "  sudo dnf install$dnf_names" >&2
        echo "  brew install$brew_names" >&2
        exit 1
    fi
fi

say "Python environment in .venv ($short)"
[ -x .venv/bin/python ] || "$python" -m venv .venv
say 'packages of requirements.lock (about 600 MB, a few minutes the first time)'
.venv/bin/python -m pip install -q --disable-pip-version-check --no-deps --require-hashes \
    -r requirements.lock
.venv/bin/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
touch .venv/.installed
say 'installed'
