"""Every benchmark of one machine without Ray, each into its record beside this file: `make bench`.

The machine should be idle. Those of Ray and of learning take longer and are run alone.

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

FOLDER = Path(__file__).resolve().parent
ARGUMENTS = {
    "step": [],
    "ideas": [],
    "operators": [],
    "features": [],
    "encoder": ["--sizes", "256"],
    "loss": ["--repeats", "5"],
    "overhead": [],
    "estimate": [],
    "decode": ["--clips", "10"],
    "augment": [],
    "validate": [],
}


def run(theme: str) -> float:
    """Seconds that a benchmark took."""
    record = FOLDER / f"{theme}_{slug()}_{date.today():%Y%m}.md"
    began = time.perf_counter()
    command = [sys.executable, str(FOLDER / f"{theme}.py"), *ARGUMENTS[theme], "--out", str(record)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=ARGUMENTS, default=list(ARGUMENTS))
    for theme in parser.parse_args().only:
        print(f"{theme:<12}{run(theme):6.0f} s", flush=True)
    subprocess.run([sys.executable, str(FOLDER / "table.py")], check=True)


if __name__ == "__main__":
    main()
