"""Install the wheel into a fresh environment and use it there, as somebody without the repository does.

    python -m tests.integration.wheel_walk FOLDER [--python python3.12]

FOLDER gets the environment, of several GB with PyTorch's CUDA libraries.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from tests.integration.one_clip import ONE_CLIP

REPO = Path(__file__).resolve().parents[2]
_CONSTRAINTS = ("-q", "-c", str(REPO / "constraints.txt"))
_SMALL = (
    *("experiment=demo", *ONE_CLIP, "model.image_size=64", "dataset.image_size=[64,64]"),
    *("valdataset.image_size=[64,64]", "dataset.num_workers=0", "valdataset.num_workers=0"),
    *("dataset.video_clip_length=2", "trainer.max_steps=2", "trainer.val_check_interval=2"),
    "scheduler.warmup_steps=1",
)
# What a new user does, in an empty folder.
COMMANDS = (
    ("doctor", "--json"),
    ("sample-data", "videos", "--videos", "2", "--frames", "6"),
    ("train", *_SMALL, "dataset.data_path=videos", "output_dir=run"),
    ("evaluate", "run", "videos"),
    ("predict", "run", "videos/JPEGImages/sample_00", "--point", "20,20", "--out", "masks"),
    ("export", "run", "tuned.pt"),
)


def build(folder: Path) -> Path:
    """Return the wheel, built from a clone: a build leaves folders behind."""
    clone = folder / "clone"
    subprocess.run(["git", "clone", "-q", str(REPO), str(clone)], check=True)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "-w", str(folder / "wheel"), str(clone)], check=True)
    (wheel,) = (folder / "wheel").glob("*.whl")
    return wheel


def install(wheel: Path, folder: Path, python: str) -> Path:
    """Return the folder of an environment's commands, with all that docs/training.md installs by hand."""
    subprocess.run([python, "-m", "venv", str(folder)], check=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", *_CONSTRAINTS]
    environment = {**os.environ, "SAM2_BUILD_CUDA": "0"}
    for packages in (
        ["--upgrade", "pip", "setuptools", "wheel"],
        ["torch", "torchvision", "numpy"],
        ["--no-build-isolation", "sam2"],
        [f"{wheel}[hub]"],
    ):
        subprocess.run([*pip, *packages], env=environment, check=True)
    return folder / "bin"


def walk(binaries: Path, folder: Path) -> str:
    """Run the commands in a new folder and return what they printed. Raises AssertionError if one fails."""
    folder.mkdir()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONPATH", None)
    printed = ""
    for command in COMMANDS:
        done = subprocess.run(
            [str(binaries / "sam2vt"), *command],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"sam2vt {' '.join(command)}: {done.stdout}"
        printed += f"$ sam2vt {' '.join(command)}\n{done.stdout}\n"
    return printed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--python", default=sys.executable)
    options = parser.parse_args()
    root = options.folder.absolute()
    root.mkdir(parents=True)
    print(walk(install(build(root), root / "environment", options.python), root / "work"))


if __name__ == "__main__":
    main()
