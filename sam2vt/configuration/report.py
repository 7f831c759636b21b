"""Collect the faults of a configuration, in one wording."""

from __future__ import annotations

from typing import Any

from sam2vt.config import Config
from sam2vt.configuration.reading import Fault
from sam2vt.settings import default_of, wrong_values


class Report:
    """The faults of a configuration; settings are named by their dotted paths.

    It begins with every value that its setting does not allow, whatever the others are.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.faults: list[Fault] = []
        for name, _, text in wrong_values(config):
            self.fault(name, text)

    def value(self, name: str) -> Any:
        """Return the value of a setting."""
        value: Any = self.config
        for part in name.split("."):
            value = getattr(value, part)
        return value

    def is_default(self, name: str) -> bool:
        """Tell whether a setting has its default value."""
        parent, _, last = name.rpartition(".")
        owner = self.value(parent) if parent else self.config
        return self.value(name) == default_of(owner, last)

    def fault(self, name: str, text: str) -> None:
        """Add a setting that is wrong on its own."""
        self.faults.append(Fault((name,), f"{name}={_show(self.value(name))}: {text}"))

    def clash(self, name: str, other: str, text: str) -> None:
        """Add two settings that conflict, unless one of them is wrong on its own."""
        wrong = {fault.fields[0] for fault in self.faults if len(fault.fields) == 1}
        if wrong & {name, other}:
            return
        pair = f"{name}={_show(self.value(name))} with {other}={_show(self.value(other))}"
        self.faults.append(Fault((name, other), f"{pair}: {text}"))

    def unused(self, name: str, other: str, text: str) -> None:
        """Add a setting that was changed although `other` leaves it without effect."""
        if not self.is_default(name):
            self.clash(name, other, f"{text}; leave {name.split('.')[-1]} at its default or change {other}")


def _show(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return repr(list(value) if isinstance(value, tuple) else value)
