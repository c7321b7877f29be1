#!/usr/bin/env bash
# Installs the system packages that the tests use: a browser and its driver, wrk, curl, nginx, openssl, Node and npm,
# a C++ compiler, and libjpeg-turbo's headers (Debian, Ubuntu).
# Does nothing, and needs neither root nor a network, when they are there.
set -eu
PATH="$PATH:/usr/sbin"  # where Debian puts nginx

missing=()
for pair in chromium:chromium chromedriver:chromium-driver wrk:wrk curl:curl g++:g++ nginx:nginx openssl:openssl node:nodejs npm:npm; do
    command -v "${pair%:*}" >/dev/null || missing+=("${pair#*:}")
done
# Including a header tells whether it is there, wherever the compiler looks for it.
printf '#include <stdio.h>\n#include <jpeglib.h>\n' | g++ -E -x c++ - >/dev/null 2>&1 || missing+=(libjpeg-dev)
if [ ${#missing[@]} -eq 0 ]; then
    exit 0
fi

if ! command -v apt-get >/dev/null; then
    echo "system-packages: there is no apt-get here; please install by other means: ${missing[*]}" >&2
    exit 1
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "system-packages: run this as root, it has to install: ${missing[*]}" >&2
        exit 1
    fi
    as_root=(sudo)
fi

echo "system-packages: installing ${missing[*]}"
apt_get() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq "$@"
}
apt_get update
apt_get install --yes --no-install-recommends "${missing[@]}"
