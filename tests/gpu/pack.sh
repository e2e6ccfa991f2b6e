#!/usr/bin/env bash
# Collects what tests/gpu/run.sh needs on a bare GPU machine into one .tar.xz (see pack.py).
# Run it from anywhere, with an interpreter that has vidfeat's dependencies:
#     PYTHON=.venv/bin/python tests/gpu/pack.sh [--output FILE] [--quick] [--without-packages]
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if [ -z "${PYTHON:-}" ]; then
    PYTHON=$here/../../.venv/bin/python
    [ -x "$PYTHON" ] || PYTHON=python3
fi
exec "$PYTHON" "$here/pack.py" "$@"
