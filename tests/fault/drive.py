"""A driver whose workers write a trace: `python -m tests.fault.drive FOLDER GATE OVERRIDE...`."""

from __future__ import annotations

import sys
from pathlib import Path

from sam2vt.config import load_config
from sam2vt.distributed.launch import fit
from sam2vt.errors import exit_on_error
from sam2vt.train import compose_config
from tests.fault import runs


def main() -> None:
    folder, gate, *overrides = sys.argv[1:]
    with exit_on_error():
        fit(load_config(compose_config(overrides)), runs.traced(Path(folder), gate=int(gate)))


if __name__ == "__main__":
    main()
