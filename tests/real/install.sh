#!/bin/sh
# What `make test-real` needs beside Python: a C++ tool chain, Prometheus with promtool.
set -eu
missing=""
for pair in cmake:cmake ninja:ninja-build g++:g++ cc:gcc prometheus:prometheus promtool:prometheus; do
    command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair##*:}"
done
[ -z "$missing" ] && exit 0
if [ "$(id -u)" != 0 ]; then
    echo "missing:$missing; install with: sudo apt-get install$missing" >&2
    exit 1
fi
apt-get update -qq
# shellcheck disable=SC2086 # a list of names
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
