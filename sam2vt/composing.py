"""Compose a configuration from YAML files and overrides, and report all their faults in one message."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from sam2vt.config import Config
from sam2vt.configuration.loading import load_config
from sam2vt.configuration.names import is_text, unknown_name
from sam2vt.configuration.reading import configs_dir
from sam2vt.configuration.yaml_files import experiment_fault
from sam2vt.errors import ConfigError
from sam2vt.settings import path_settings

if TYPE_CHECKING:
    from omegaconf import DictConfig

HYDRA_VERSION_BASE = "1.3"
_RUN_CONFIG = "config.yaml"  # in the folder of every run: its whole configuration

# A name, perhaps with Hydra's sign before it; what follows the first = is the value.
_OVERRIDE = re.compile(r"(?P<sign>\+{0,2}|~)(?P<name>[^=~+]+)(=(?P<value>.*))?", re.DOTALL)
# Hydra's own options and settings, but for further folders of YAML files.
_OF_HYDRA = re.compile(r"-|[+~]*hydra[./](?!searchpath=)")
# The one group that is chosen twice.
_OF_VALIDATION = "dataset/augment@valdataset.augment"
# With one of these Hydra makes a run for each of several values.
_SEVERAL = {"-m", "--multirun", "hydra.mode=MULTIRUN"}
# A value that is quoted as a whole in Hydra's grammar, where only the quote itself is escaped.
_QUOTED = re.compile(r"'(\\.|[^'\\])*'|\"(\\.|[^\"\\])*\"", re.DOTALL)


def load_overrides(
    overrides: Sequence[str] = (),
    change: Callable[[Any], None] = lambda composed: None,
    load: Callable[[Any], Any] = load_config,
    takes_options: bool = False,
) -> Any:
    """Return the configuration that `overrides` give, read by `load`.

    `change` edits the composed configuration first. Raises one ConfigError with every fault of the overrides,
    and of the configuration that the valid ones give. Hydra's own options and settings are faults unless
    `takes_options`, since they have no effect here.
    """
    found: Any = None
    with usable_overrides(overrides) as (known, faults):
        if not takes_options:
            options = [each for each in overrides if _OF_HYDRA.match(each)]
            faults += [f"{each}: is Hydra's; only `sam2vt train` takes it" for each in options]
            known = [each for each in known if not _OF_HYDRA.match(each)]
        try:
            composed = _compose(known)
            change(composed)
            found = load(composed)
        except ConfigError as error:
            # What a file would have given is not missing.
            is_lost = any(each.startswith("experiment=") for each in faults)
            found_too = error.faults or [str(error)]
            faults += [each for each in found_too if not (is_lost and "has to be given" in each)]
    if faults:
        raise ConfigError.listing("the configuration", faults)
    return found


def compose_config(overrides: Sequence[str] = ()) -> DictConfig:
    """Return the configuration that `overrides` compose to, unchecked. Raises one ConfigError."""
    with usable_overrides(overrides) as (known, faults):
        if faults:
            raise ConfigError.listing("the configuration", faults)
        return _compose(known)


def _compose(overrides: Sequence[str]) -> DictConfig:
    """Compose without Hydra running the program.

    Hydra's global state is restored, because importing `sam2` initialises it.
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
            settings = [each for each in overrides if each[0] != "-" and ("=" in each or each[0] == "~")]
            return compose("config", overrides=settings)
    except HydraException as error:
        raise ConfigError(_misfit(str(error).partition("\n")[0])) from error
    finally:
        GlobalHydra.instance().hydra = before


def _misfit(text: str) -> str:
    """Return what is wrong with overrides that Hydra cannot put together; `text` begins its error."""
    found = re.fullmatch(r"Error merging override \+\+(?P<given>[^=]+=(?P<value>.*))", text)
    if found is None:
        return f"the overrides do not fit together: {text}"
    # It merges all but a list into a mapping, or a mapping into a list.
    is_list = found["value"].startswith("[")
    needed = "a mapping, such as {name: value}" if is_list else "a list, such as [a, b]"
    return f"{found['given']}: must be {needed}"


@contextmanager
def usable_overrides(arguments: Sequence[str]) -> Iterator[tuple[list[str], list[str]]]:
    """Yield the arguments in Hydra's form, and the faults among them.

    Texts are quoted, so that Hydra's grammar takes them literally. Within the block,
    `experiment=some/file.yaml` is a choice; a sweep writes such a file for its best trial. Options are passed
    on.
    """
    with TemporaryDirectory(prefix="sam2vt-experiment-") as folder:
        known, faults = [], []
        for each in _continuing(arguments):
            found = _OVERRIDE.fullmatch(each)
            if each.startswith("-"):
                taken, fault = [each], None
            elif found is None or (found["value"] is None and found["sign"] != "~"):
                fault = _missing_value(each, arguments)
                taken = [] if fault else [each]
            elif found["name"] == "experiment" and literal(found["value"] or "").endswith((".yaml", ".yml")):
                taken, fault = _experiment_file(literal(found["value"]), folder)
            else:
                taken, fault = _usable(found, arguments)
            known += taken
            faults += [fault] if fault else []
        yield known, faults


def _continuing(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with resume=RUN expanded: the run's configuration, in the run's folder.

    Further overrides change it. If a folder or an experiment is named too, this is another run, which begins
    from the checkpoint file.
    """
    names = [each.lstrip("+").partition("=")[0] for each in arguments]
    if {"output_dir", "experiment"} & set(names) or names.count("resume") != 1:
        return list(arguments)
    place = names.index("resume")
    run = Path(literal(arguments[place].partition("=")[2])).expanduser()
    if not (run / _RUN_CONFIG).is_file():
        return list(arguments)
    others = [each for number, each in enumerate(arguments) if number != place]
    return [f"experiment={run / _RUN_CONFIG}", *others, f"output_dir={run}", "resume=auto"]


def literal(value: str) -> str:
    """Return the text of a value, without quotes and their escapes if it is quoted."""
    if not _QUOTED.fullmatch(value):
        return value
    quote = value[0]
    # Hydra's rule: backslashes are escapes only before a quote, or before the closing one.
    inner = re.sub(rf"(\\+)(?={quote})", lambda found: found[1][: len(found[1]) // 2], value[1:])
    return inner[:-1]


def _usable(found: re.Match[str], arguments: Sequence[str]) -> tuple[list[str], str | None]:
    """Return an override in Hydra's form, and its faults."""
    name, value, given = found["name"], found["value"], found[0]
    if re.match("hydra[./]", name):
        return [f"{found['sign']}{name}={_in_grammar(name, value)}" if value else given], None
    group, _, package = name.partition("@")
    is_choice = group in _groups() and not (value or "").startswith("{")
    if is_choice and package and name != _OF_VALIDATION:
        return [], f"{given}: cannot be chosen for {package}; leave out @{package}"
    if not is_choice and (fault := unknown_name(name)):
        return [], fault
    if found["sign"] == "~":
        return ([f"~{name}"], None) if value is None else ([], f"{given}: write ~{name}, without a value")
    if is_choice:
        fault = _unknown_choice(group, literal(value), arguments)
        return [] if fault else [f"{name}={value}"], fault
    chosen = [each.lstrip("+").partition("=")[0] for each in arguments]
    if name.startswith("sweep.") and not {"sweep", "experiment"} & set(chosen):
        return [], f"{name}={value}: no sweep was named; give sweep=joint or another of configs/sweep"
    if re.search(r"(?<!\\)\$\{([^}]*$|\})", value):
        return [], f"{given}: ${{ begins a reference such as ${{name}}; as a part of a text write \\${{"
    # Forced, because Hydra refuses what the YAML lacks, as below an empty mapping.
    return [f"++{name}={_in_grammar(name, value, bool(_SEVERAL & set(arguments)))}"], None


def _in_grammar(name: str, value: str, several: bool = False) -> str:
    """Return the value of a setting in Hydra's grammar.

    A value outside the grammar, or several values for one run, become a text, which the setting then checks.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import Quote, QuotedString
    from hydra.errors import HydraException

    if value in ("", "null") or _QUOTED.fullmatch(value):
        return value
    if name not in _paths() and (several or not is_text(name)):
        with suppress(HydraException):
            parsed = OverridesParser.create().parse_override(f"{name}={value}")
            if several or not parsed.is_sweep_override():
                return value
    return str(QuotedString(value, Quote.single).with_quotes())


def _paths() -> set[str]:
    """Return the names of settings that are paths, and of Hydra's folders."""
    return path_settings(Config) | {"hydra.run.dir", "hydra.sweep.dir"}


def _groups() -> set[str]:
    """Return the groups of YAML files of which an override chooses one."""
    root = configs_dir()
    # The networks are files that model.config_path names.
    return {each.relative_to(root).as_posix() for each in root.rglob("*") if each.is_dir()} - {"network"}


def _unknown_choice(name: str, value: str, arguments: Sequence[str]) -> str | None:
    # Further folders may have further choices; Hydra knows.
    has_more_folders = any("searchpath" in each or each.startswith("--config-dir") for each in arguments)
    known = sorted(file.stem for file in (configs_dir() / name).glob("*.yaml"))
    is_list = value.startswith("[") or bool(_SEVERAL & set(arguments))
    given = value.strip("[]").split(",") if is_list else [value]
    wrong = [each for each in given if each.strip() not in known]
    if has_more_folders or not wrong:
        return None
    if "," in wrong[0]:
        return f"{name}={value}: one run has one choice; allowed are {', '.join(known)}"
    close = get_close_matches(wrong[0], known, n=1)
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
    if (fault := experiment_fault(file)) is not None:
        return [], f"experiment={file}: {fault}"
    (Path(folder) / "experiment").mkdir(exist_ok=True)
    # Under a name of its own: that of the file may be one that Hydra's grammar does not take.
    copy = Path(folder) / "experiment" / "given.yaml"
    shutil.copy(file, copy)
    if file.name == _RUN_CONFIG:  # a run's whole configuration, which has no package
        # Checkpoints in its own folder: another output_dir has its own, too.
        text = re.sub(r"(?m)^(output_dir: (.*)\n)save_dir: \2/checkpoints\n", r"\1", file.read_text())
        copy.write_text(f"# @package _global_\n{text}")
    return ["experiment=given", f"hydra.searchpath=['file://{folder}']"], None
