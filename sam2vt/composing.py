"""Compose a configuration from the YAML files and overrides, with every fault of them in one message."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from sam2vt.config import Config
from sam2vt.configuration.loading import load_config
from sam2vt.configuration.names import unknown_name
from sam2vt.configuration.reading import configs_dir
from sam2vt.errors import ConfigError
from sam2vt.settings import settings_of, walk

if TYPE_CHECKING:
    from omegaconf import DictConfig

HYDRA_VERSION_BASE = "1.3"

# A name, perhaps with Hydra's + or ++ before it; what follows the first = is the value.
_OVERRIDE = re.compile(r"(?P<sign>\+{0,2})(?P<name>[^=~+]+)=(?P<value>.*)", re.DOTALL)
# A value that is quoted as a whole in Hydra's grammar, where only the quote itself is escaped.
_QUOTED = re.compile(r"'(\\.|[^'\\])*'|\"(\\.|[^\"\\])*\"", re.DOTALL)


def load_overrides(
    overrides: Sequence[str] = (),
    change: Callable[[Any], None] = lambda composed: None,
    load: Callable[[Any], Any] = load_config,
    takes_options: bool = False,
) -> Any:
    """Return the configuration that `overrides` compose to, as `load` reads it.

    `change` edits the composed configuration before. Raises one ConfigError with every fault of the
    overrides and of the configuration that the right ones make. Hydra's options are a fault unless
    `takes_options`: here nothing would follow them.
    """
    with usable_overrides(overrides) as (known, faults):
        composed = _compose(known)
    if not takes_options:
        options = [each for each in overrides if each.startswith("-")]
        faults = [
            *faults,
            *(f"{each}: is no override; only `sam2vt train` takes options" for each in options),
        ]
    change(composed)
    if not faults:
        return load(composed)
    try:
        load(composed)
    except ConfigError as error:
        faults = [*faults, *error.faults]
    raise ConfigError.listing("the configuration", faults)


def compose_config(overrides: Sequence[str] = ()) -> DictConfig:
    """Return what `sam2vt train` composes from `overrides`, unchecked. Raises one ConfigError for them."""
    with usable_overrides(overrides) as (known, faults):
        if faults:
            raise ConfigError.listing("the configuration", faults)
        return _compose(known)


def _compose(overrides: Sequence[str]) -> DictConfig:
    """Compose where Hydra does not run the program.

    Hydra's global state is left as it was: importing `sam2` initialises it.
    """
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException

    state = GlobalHydra.instance()
    before = state.hydra
    state.clear()
    try:
        with initialize_config_dir(str(configs_dir()), version_base=HYDRA_VERSION_BASE):
            # Options, such as --cfg job, are for Hydra's main alone.
            settings = [each for each in overrides if each.startswith("~") or _OVERRIDE.fullmatch(each)]
            return compose("config", overrides=[each for each in settings if not each.startswith("-")])
    except HydraException as error:
        # Its second line advises to add unknown keys by +, which nothing here would read.
        text = str(error).partition("\nTo append")[0]
        raise ConfigError(f"the configuration cannot be composed: {text}") from error
    finally:
        GlobalHydra.instance().hydra = before


@contextmanager
def usable_overrides(arguments: Sequence[str]) -> Iterator[tuple[list[str], list[str]]]:
    """Yield (the arguments as Hydra takes them, the faults of those that are left out).

    Paths are quoted, so that Hydra's grammar takes them as they are; `experiment=some/file.yaml`, which is
    what a sweep leaves of its best trial, is a choice while the block runs. Options are passed on.
    """
    with TemporaryDirectory(prefix="sam2vt-experiment-") as folder:
        known, faults = [], []
        for each in arguments:
            found = _OVERRIDE.fullmatch(each)
            if found is None or each.startswith("-"):
                fault = None if each.startswith(("-", "~")) else _missing_value(each, arguments)
                taken = [each]
            elif found["name"] == "experiment" and literal(found["value"]).endswith((".yaml", ".yml")):
                taken, fault = _experiment_file(literal(found["value"]), folder)
            else:
                taken, fault = _usable(found["sign"], found["name"], found["value"], arguments)
            known += [] if fault else taken
            faults += [fault] if fault else []
        yield known, faults


def literal(value: str) -> str:
    """Return the text of a value: without the quotes around it and their escapes, where it is quoted."""
    if not _QUOTED.fullmatch(value):
        return value
    quote = value[0]
    # Hydra's rule: backslashes are escapes only before a quote, or before the closing one.
    inner = re.sub(rf"(\\+)(?={quote})", lambda found: found[1][: len(found[1]) // 2], value[1:])
    return inner[:-1]


def _usable(sign: str, name: str, value: str, arguments: Sequence[str]) -> tuple[list[str], str | None]:
    """Return an override as Hydra takes it, and what is wrong with it."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import Quote, QuotedString
    from hydra.errors import HydraException

    group = configs_dir() / name.partition("@")[0]  # of YAML files, of which an override chooses one
    if group.is_dir():
        return [f"{sign}{name}={value}"], _unknown_choice(group, literal(value), arguments)
    if not name.startswith("hydra") and (fault := unknown_name(name)):
        return [], fault
    chosen = [each.lstrip("+").partition("=")[0] for each in arguments]
    if not sign and name.startswith("sweep.") and not {"sweep", "experiment"} & set(chosen):
        return [], f"{name}={value}: no sweep was named; give sweep=joint or another of configs/sweep"
    if name in _paths() and value not in ("", "null") and not _QUOTED.fullmatch(value):
        value = QuotedString(value, Quote.single).with_quotes()
    override = f"{sign}{name}={value}"
    try:
        OverridesParser.create().parse_override(override)
    except HydraException as error:
        return [], f"{name}={value}: cannot be parsed: {str(error).splitlines()[0]}"
    return [override], None


def _paths() -> set[str]:
    """Return the settings that are paths, and Hydra's folders."""
    own = {name for name, owner, own_name in walk(Config) if settings_of(owner)[own_name].path}
    return own | {"hydra.run.dir", "hydra.sweep.dir"}


def _unknown_choice(group: Path, value: str, arguments: Sequence[str]) -> str | None:
    # Further folders may have further choices; Hydra knows.
    has_more_folders = any("searchpath" in each or each.startswith("--config-dir") for each in arguments)
    known = sorted(file.stem for file in group.glob("*.yaml"))
    # A list or a sweep of several choices is Hydra's to read.
    if value in known or has_more_folders or not re.fullmatch(r"[\w.+-]*", value):
        return None
    name = group.relative_to(configs_dir()).as_posix()
    close = get_close_matches(value, known, n=1)
    meant = f", did you mean {name}={close[0]}?" if close else ""
    return f"{name}={value}: unknown choice{meant}; allowed are {', '.join(known)}"


def _missing_value(argument: str, arguments: Sequence[str]) -> str | None:
    before = ["", *arguments][arguments.index(argument)]
    if before.startswith("-") and "=" not in before:
        return None  # the value of an option, such as --cfg job
    return f"{argument}: must be name=value, such as optimizer.lr=1e-4"


def _experiment_file(path: str, folder: str) -> tuple[list[str], str | None]:
    """Return the overrides that choose a copy of an experiment's file in `folder`."""
    file = Path(path).expanduser()
    if not file.is_file():
        return [], f"experiment={file}: there is no such file (looked in {Path.cwd()})"
    (Path(folder) / "experiment").mkdir(exist_ok=True)
    # Under a name of its own: that of the file may be one that Hydra's grammar does not take.
    shutil.copy(file, Path(folder) / "experiment" / "given.yaml")
    return ["experiment=given", f"hydra.searchpath=['file://{folder}']"], None
