"""Compose a configuration from the YAML files and overrides, as `sam2vt train` does."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from sam2vt.configuration.reading import configs_dir
from sam2vt.errors import ConfigError

if TYPE_CHECKING:
    from omegaconf import DictConfig


HYDRA_VERSION_BASE = "1.3"


def compose_config(overrides: Sequence[str] = ()) -> DictConfig:
    """What `sam2vt train` composes from `overrides`, where Hydra does not run the program.

    Hydra's global state is left as it was: importing `sam2` initialises it.
    """
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException

    state = GlobalHydra.instance()
    before = state.hydra
    state.clear()
    try:
        with (
            experiment_file(overrides) as known,
            initialize_config_dir(str(configs_dir()), version_base=HYDRA_VERSION_BASE),
        ):
            return compose("config", overrides=known)
    except HydraException as error:
        raise ConfigError(f"the configuration cannot be composed: {error}") from error
    finally:
        GlobalHydra.instance().hydra = before


@contextmanager
def experiment_file(overrides: Sequence[str]) -> Iterator[list[str]]:
    """The overrides with `experiment=some/file.yaml` as Hydra takes it, while the block runs.

    Such a file is what a sweep leaves of its best trial. Raises ConfigError where it is not there.
    """
    name, ending = "experiment=", (".yaml", ".yml")
    found = [o for o in overrides if o.startswith(name) and o.rstrip("'\"").endswith(ending)]
    if not found:
        yield list(overrides)
        return
    file = Path(found[-1].removeprefix(name).strip("'\"")).expanduser()
    if not file.is_file():
        raise ConfigError(f"experiment={file}: there is no such file (looked in {Path.cwd()})")
    with TemporaryDirectory(prefix="sam2vt-experiment-") as folder:
        (Path(folder) / "experiment").mkdir()
        shutil.copy(file, Path(folder) / "experiment" / f"{file.stem}.yaml")
        others = [o for o in overrides if o not in found]
        yield [*others, f"experiment={file.stem}", f"hydra.searchpath=['file://{folder}']"]
