#!/usr/bin/env bash
# Puts pillow-simd in Pillow's place: scripts/pillow-simd.sh PYTHON   (`make simd`; docs/pictures.md says what for)
# Both own the folder PIL and torchvision asks for Pillow by name, so this comes after every other installation.
# Pillow stays in place until pillow-simd is built.
set -eu

python=$1
here=$(cd "$(dirname "$0")/.." && pwd)
version=$(sed -n 's/^ARG PILLOW_SIMD=//p' "$here/Dockerfile")
wheels=$("$python" -c 'import sys; print(sys.prefix)')/.pillow-simd

fail() {
    echo "pillow-simd: $*" >&2
    exit 1
}

grep -qw avx2 /proc/cpuinfo 2>/dev/null ||
    fail "this processor has no AVX2, without which it is no faster than Pillow; nothing was changed"

# Its source needs a compiler and these headers (Debian, Ubuntu).
has() {
    printf '#include <stdio.h>\n#include <%s>\n' "$1" | cc -E -x c - >/dev/null 2>&1
}
if ! { has jpeglib.h && has zlib.h && has webp/decode.h && has webp/demux.h && has webp/mux.h; }; then
    packages=(gcc libc6-dev libjpeg-dev libwebp-dev zlib1g-dev)
    command -v apt-get >/dev/null || fail "there is no apt-get here; please install by other means: ${packages[*]}"
    as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || fail "run this as root, it has to install: ${packages[*]}"
        as_root=(sudo)
    fi
    echo "pillow-simd: installing ${packages[*]}"
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq update
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends "${packages[@]}"
fi

if ! ls "$wheels/pillow_simd-$version-"*.whl >/dev/null 2>&1; then
    echo "pillow-simd: building $version (a minute) …"
    # Not from pip's cache, which does not know with which compiler flags a wheel was built.
    CC="cc -mavx2" "$python" -m pip wheel --quiet --disable-pip-version-check --no-cache-dir --no-deps \
        --no-binary pillow-simd --wheel-dir "$wheels" "pillow-simd==$version"
fi
"$python" -m pip uninstall --quiet --yes pillow pillow-simd 2>/dev/null
"$python" -m pip install --quiet --disable-pip-version-check --no-deps "$wheels/pillow_simd-$version-"*.whl

"$python" -c 'import sys, PIL, PIL._imaging; print(f"pillow-simd: {PIL.__version__} is in use"); sys.exit("post" not in PIL.__version__)' ||
    fail "it was installed, but another Pillow is imported"
