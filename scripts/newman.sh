#!/usr/bin/env bash
# Installs newman, which runs Postman collections, from npm into .cache/newman; Node comes from system-packages.sh.
# Does nothing, and needs no network, when it is there.
set -eu
version=6.2.2
folder="$(dirname "$0")/../.cache/newman"

if [ "$(cat "$folder/.installed" 2>/dev/null)" = "$version" ]; then
    exit 0
fi
command -v npm >/dev/null || "$(dirname "$0")/system-packages.sh"
mkdir -p "$folder"
npm install --silent --no-audit --no-fund --prefix "$folder" "newman@$version"
echo "$version" > "$folder/.installed"
