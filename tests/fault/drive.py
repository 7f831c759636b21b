"""A driver whose workers write a trace: `python -m tests.fault.drive FOLDER GATE OVERRIDE...`."""

from __future__ import annotations

import sys
from pathlib import Path

from sam2vt.composing import compose_config
from sam2vt.configuration.loading import load_config
from sam2vt.distributed.launch import fit
from sam2vt.errors import exit_on_error
from tests.fault import runs


def main() -> None:
    folder, gate, *overrides = sys.argv[1:]
    with exit_on_error():
        fit(load_config(compose_config(overrides)), runs.traced(Path(folder), gate=int(gate)))


if __name__ == "__main__":
    main()
