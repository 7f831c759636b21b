#!/usr/bin/env bash
# Compares a training step with SAM2Train on a GPU, correctness first. Needs torch there, and downloads nothing.
#
#   benchmarks/gpu/run.sh [--device cuda|cpu] [--minutes 7] [--out FILE.md]
#
# Missing packages (sam2, hydra-core, ...) come from benchmarks/gpu/wheels, which wheels.sh fills.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
root="$(dirname "$(dirname "$here")")"
python="${PYTHON:-python3}"

site="$(mktemp -d)"
trap 'rm -rf "$site"' EXIT
if compgen -G "$here/wheels/*.whl" > /dev/null; then
    "$python" -m pip install --quiet --no-index --no-deps --target "$site" "$here"/wheels/*.whl
fi
# What is installed comes first: the wheels only fill gaps.
export PYTHONPATH="$root:$root/benchmarks${PYTHONPATH:+:$PYTHONPATH}"
export SAM2VT_WHEELS="$site"
"$python" "$here/run.py" "$@"
