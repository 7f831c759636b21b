"""`sam2vt train`: every argument is an override, or an option of Hydra's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

HELP = """usage: sam2vt train [SETTING=VALUE ...]

Train, and write checkpoints, curves and overlays into a new folder below runs/.

examples:
  sam2vt train experiment=overfit dataset.data_path=my_videos
  sam2vt train model=base_plus trainer=gpu dataset.data_path=my_videos split=video
  sam2vt train ... output_dir=runs/mine resume=auto     continues what is in runs/mine
  sam2vt train ... --cfg job                            prints the whole configuration

settings:
  dataset.data_path   your videos and their masks: docs/data.md
  split               video, time or none: what is held back for validation
  model               {model}
  experiment          {experiment}
  optimizer.lr, trainer.max_epochs, dataset.batch_size, ...: all of them, with what they
  allow and mean, are in docs/settings.md

--hydra-help lists Hydra's own options, such as --multirun. Ctrl-C saves a checkpoint.
"""


def run(arguments: Sequence[str]) -> None:
    """Train; see `sam2vt.train.main`. `--help` loads nothing."""
    if any(each in ("-h", "--help") for each in arguments):
        print(HELP.format(model=_choices("model"), experiment=_choices("experiment")), end="")
        return
    from sam2vt import train

    train.main(arguments)


def complete(prefix: str, **_: Any) -> list[str]:
    """Return the settings for shell completion, each with an equals sign."""
    from sam2vt.config import Config
    from sam2vt.settings import walk

    names = ["model", "experiment", *(name for name, *_ in walk(Config()))]
    return [f"{name}=" for name in names if name.startswith(prefix)]


def _choices(group: str) -> str:
    """Return the YAMLs of a group of configurations, as words."""
    from sam2vt.configuration.reading import configs_dir

    names = sorted(path.stem for path in (configs_dir() / group).glob("*.yaml"))
    return ", ".join(name for name in names if not name.startswith("card_"))
