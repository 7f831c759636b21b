#!/usr/bin/env bash
# Fills benchmarks/gpu/wheels for a machine with Python 3.12 on Linux and torch. Run it where packages can be
# downloaded, with PYTHON=.venv/bin/python or another Python that has torch, setuptools and wheel.
set -euo pipefail
wheels="$(cd "$(dirname "$0")" && pwd)/wheels"
python="${PYTHON:-python3}"
pins="$(dirname "$0")/../../constraints.txt"
mkdir -p "$wheels"
"$python" -m pip download --quiet --no-deps --constraint "$pins" --dest "$wheels" --only-binary=:all: \
    --python-version "${TARGET_PYTHON:-3.12}" --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 \
    hydra-core omegaconf portalocker tensordict cloudpickle pyvers yacs termcolor tabulate tqdm packaging \
    typing_extensions opencv-python-headless pyyaml numpy pillow tensorboard absl-py protobuf
# These come as sources; none has a part to compile that is needed.
SAM2_BUILD_CUDA=0 "$python" -m pip wheel --quiet --no-deps --constraint "$pins" --no-build-isolation \
    --wheel-dir "$wheels" sam2 iopath fvcore antlr4-python3-runtime==4.9.3
