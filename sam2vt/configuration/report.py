"""Collect the faults of a configuration, in one wording."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from sam2vt.config import Config
from sam2vt.configuration.reading import Fault
from sam2vt.settings import default_of, show, value_at, wrong_values


class Report:
    """The faults of a configuration; settings are named by their dotted paths.

    It begins with every value that its own setting does not allow.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.faults: list[Fault] = []
        for name, _, text in wrong_values(config):
            self.fault(name, text)

    def value(self, name: str) -> Any:
        """Return the value of a setting, or the section of a name; the whole configuration for no name."""
        return value_at(self.config, name) if name else self.config

    def fault(self, name: str, text: str) -> None:
        """Add a setting that is wrong by itself."""
        self.faults.append(Fault((name,), f"{name}={show(self.value(name))}: {text}"))

    def clash(self, name: str, other: str, text: str) -> None:
        """Add two settings that conflict, unless one of them is wrong by itself."""
        wrong = {fault.fields[0] for fault in self.faults if len(fault.fields) == 1}
        if not wrong & {name, other}:
            pair = " with ".join(f"{each}={show(self.value(each))}" for each in (name, other))
            self.faults.append(Fault((name, other), f"{pair}: {text}"))

    def unused(self, other: str, text: str, *names: str) -> None:
        """Add each of `names` that was changed but has no effect because of `other`.

        A name without a dot is a setting in the section of `other`.
        """
        section = other.rpartition(".")[0]
        for each in names:
            name = each if "." in each or not section else f"{section}.{each}"
            owner, _, last = name.rpartition(".")
            if last in changed_settings(self.value(owner)):
                self.clash(name, other, f"{text}; leave {last} at its default or change {other}")


def changed_settings(section: Any) -> list[str]:
    """Return the settings of a section that are not at their defaults."""
    return [f.name for f in fields(section) if getattr(section, f.name) != default_of(section, f.name)]
