#!/usr/bin/env bash
# Checks and measures vidfeat on a GPU: one command on a bare machine.
#     tests/gpu/run.sh [--device cuda|cpu] [--only ROW,ROW] [--limit SECONDS] [--list]
# Needs the archive of tests/gpu/pack.sh (.gpu/pack.tar.xz, or PACK=FILE). Writes results.json and
# log.txt to $OUT. Exit status 0: every row passed, or is listed as skipped.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PYTHON=$(command -v "${PYTHON:-python3}")
case $PYTHON in /*) ;; *) PYTHON=$PWD/$PYTHON ;; esac
export OUT=${OUT:-$PWD/gpu-results} PYTHONUNBUFFERED=1
mkdir -p "$OUT"
work=$(mktemp -d "${TMPDIR:-/tmp}/vidfeat-gpu-XXXXXX")
trap 'rm -rf "$work"' EXIT
if [ -f "$here/../pack.json" ]; then
    pack=$(cd "$here/.." && pwd) # this script lies in an unpacked archive
else
    archive=${PACK:-$here/../../.gpu/pack.tar.xz}
    [ -f "$archive" ] || { echo "no $archive: make it with tests/gpu/pack.sh" >&2; exit 2; }
    pack=$work/pack
    mkdir "$pack"
    tar -C "$pack" -xJf "$archive"
fi
export PYTHONPATH=$pack/product:$pack/site
# Keep compiled modules, so that a second run finds them as on a machine in use.
unset PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX=$work/pycache
cd "$work"
"$PYTHON" "$here/run.py" --pack "$pack" --scratch "$work" --out "$OUT" "$@"
