"""Run the benchmarks of one idle machine without Ray, and write a record for each: `make bench`.

Those of single ideas and long ones (`ALONE`) run only when named. Those of Ray, of learning and of settings
need data or take longer, and are commands of their own.

    python benchmarks/all.py [--only loss step]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

from machine import slug

ALONE = ("ideas", "encoder", "predict", "predict_memory")
FOLDER = Path(__file__).resolve().parent
ARGUMENTS = {
    "step": [],
    "ideas": [],
    "operators": [],
    "features": [],
    "encoder": ["--sizes", "256"],
    "loss": ["--repeats", "7"],
    "lightning_overhead": [],
    "ddp_overhead": ["--turns", "3"],  # which take a minute
    "startup": [],
    "memory": [],
    "estimate": [],
    "decode": ["--clips", "4"],
    "augment": [],
    "validate": [],
    "predict": [],
    "predict_memory": [],
}


def run(theme: str) -> int:
    """The exit status of a benchmark, whose seconds are printed."""
    record = FOLDER / f"{theme}_{slug()}_{date.today():%Y%m}.md"
    began = time.perf_counter()
    command = [sys.executable, str(FOLDER / f"{theme}.py"), *ARGUMENTS[theme], "--out", str(record)]
    status = subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode
    print(f"{theme:<20}{time.perf_counter() - began:6.0f} s{' FAILED' * (status != 0)}", flush=True)
    return status


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", choices=ARGUMENTS, default=[t for t in ARGUMENTS if t not in ALONE]
    )
    failed = sum(run(theme) != 0 for theme in parser.parse_args().only)
    subprocess.run([sys.executable, str(FOLDER / "table.py")], check=True)
    sys.exit(f"{failed} failed" if failed else 0)


if __name__ == "__main__":
    main()
