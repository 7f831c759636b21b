"""Collects what is wrong with a configuration, in one wording."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from sam2vt.config import Config
from sam2vt.configuration.reading import Fault


class Report:
    """Faults found so far; fields are named by their dotted paths. A field is reported once on its own."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.faults: list[Fault] = []

    def value(self, name: str) -> Any:
        value: Any = self.config
        for part in name.split("."):
            value = getattr(value, part)
        return value

    def is_default(self, name: str) -> bool:
        *parents, last = name.split(".")
        owner = self.value(".".join(parents)) if parents else self.config
        return self.value(name) == next(f.default for f in fields(owner) if f.name == last)

    def fault(self, name: str, text: str) -> None:
        self.faults.append(Fault((name,), f"{name}={_show(self.value(name))}: {text}"))

    def clash(self, name: str, other: str, text: str) -> None:
        """Two settings that do not go together; left out where one of them is wrong on its own."""
        wrong = {fault.fields[0] for fault in self.faults if len(fault.fields) == 1}
        if wrong & {name, other}:
            return
        pair = f"{name}={_show(self.value(name))} with {other}={_show(self.value(other))}"
        self.faults.append(Fault((name, other), f"{pair}: {text}"))

    def unused(self, name: str, other: str, text: str) -> None:
        """A setting that was changed although `other` leaves it without effect."""
        if not self.is_default(name):
            self.clash(name, other, f"{text}; leave {name.split('.')[-1]} at its default or change {other}")


def _show(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return repr(list(value) if isinstance(value, tuple) else value)
