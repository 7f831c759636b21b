"""`sam2vt doctor`: what this machine has, what is missing, and how to fix it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator

from sam2vt.health.devices import devices
from sam2vt.health.finding import BROKEN, NOTE, Finding, as_text
from sam2vt.health.packages import optional, required
from sam2vt.health.places import places, ray_cluster
from sam2vt.health.video import video

CHECKS: dict[str, Callable[[], Iterator[Finding]]] = {
    "packages": required,
    "devices": devices,
    "video": video,
    "places": places,
    "Ray": ray_cluster,
    "optional packages": optional,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument("--json", action="store_true", help="print a JSON object, for programs")


def run(options: argparse.Namespace) -> None:
    """Print what is found. Raises SystemExit with code 1 if something is broken that training needs."""
    groups = {group: _findings(group) for group in CHECKS}
    is_broken = any(each.state == BROKEN for findings in groups.values() for each in findings)
    if options.json:
        rows = [{"group": group, **each._asdict()} for group, found in groups.items() for each in found]
        print(json.dumps({"ok": not is_broken, "findings": rows}, indent=2))
    else:
        print(as_text(groups))
    if is_broken:
        raise SystemExit(1)


def _findings(group: str) -> list[Finding]:
    found: list[Finding] = []
    try:
        found += CHECKS[group]()
    except Exception as error:  # the report is for machines on which anything may be wrong
        found.append(Finding(group, f"cannot be checked: {type(error).__name__}: {error}", NOTE))
    return found
