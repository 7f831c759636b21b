"""Check the installed packages against what sam2vt requires, by their metadata: nothing is imported."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import sam2vt
from sam2vt.health.finding import BROKEN, NOTE, OK, Finding

# Shown even where nothing is wrong with them: a report of a fault needs their versions.
_SHOWN = ("torch", "torchvision", "ray", "lightning", "sam2", "av", "opencv-python")
# Builds of the same package under other names.
_SAME = {
    "opencv-python": ("opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless"),
    "sam2": ("SAM-2",),  # Meta's own repository
    "mlflow": ("mlflow-skinny",),
}
# Module -> (the extra that brings it, what is missing without it).
_OPTIONAL = {
    "huggingface_hub": ("hub", "weights from the Hugging Face hub (hf://...)"),
    "peft": ("lora", "training of low-rank adapters (model.lora)"),
    "safetensors": ("hub", "weights in the form of transformers"),
    "wandb": ("wandb", "logging to Weights & Biases (loggers=[wandb])"),
    "mlflow": ("mlflow", "logging to MLflow (loggers=[mlflow])"),
}


def required() -> Iterator[Finding]:
    """Yield Python, sam2vt, the packages that are shown, and all others that are missing or too old."""
    yield _python()
    yield Finding("sam2vt", f"{sam2vt.__version__}, in {Path(sam2vt.__file__).parent}")
    needs = {each.name: each for each in requirements("sam2vt", "sam2")}
    for name in dict.fromkeys([*_SHOWN, *needs]):
        found = _package(name, needs.get(name))
        if name in _SHOWN or found.state != OK:
            yield found
    # A torch that was replaced alone is the usual reason why torchvision cannot be imported.
    torch = next((each for each in requirements("torchvision") if each.name == "torch"), None)
    version = installed("torch")
    if torch is not None and version and not torch.specifier.contains(version, prereleases=True):
        text = f"is built for torch{torch.specifier}, but torch is {version}"
        yield Finding("torchvision", text, BROKEN, "pip install --upgrade torch torchvision")


def optional() -> Iterator[Finding]:
    """Yield the packages that only some features need."""
    for module, (extra, use) in _OPTIONAL.items():
        if missing(module) is None:
            yield Finding(module, installed(module) or "found")
        else:
            yield Finding(module, f"missing: {use}", NOTE, f"pip install {_extra(extra)}")


def missing(module: str) -> str | None:
    """Return the fault of a module that is not installed, with the command that installs it; None if it is.

    A folder of its name, as some packages make here, is none.
    """
    spec = find_spec(module)
    if spec is not None and spec.origin is not None:
        return None
    name = _extra(_OPTIONAL[module][0]) if module in _OPTIONAL else module
    return f"{module} is not installed; `pip install {name}`"


def installed(name: str) -> str | None:
    """Return the version of a distribution, or of another build of it; None if there is none."""
    for each in (name, *_SAME.get(name, ())):
        try:
            return metadata.version(each)
        except metadata.PackageNotFoundError:
            continue
    return None


def requirements(name: str, extra: str = "") -> list[Any]:
    """Return what a distribution requires, with those of an extra; [] if it is not installed as one."""
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        lines = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            each = Requirement(line)
        except InvalidRequirement:
            continue
        if each.marker is None or each.marker.evaluate({"extra": extra}):
            found.append(each)
    return found


def _python() -> Finding:
    from packaging.specifiers import SpecifierSet

    version = platform.python_version()
    try:
        allowed = metadata.metadata("sam2vt")["Requires-Python"] or ""
    except (metadata.PackageNotFoundError, KeyError):
        allowed = ""
    if SpecifierSet(allowed).contains(version, prereleases=True):
        return Finding("python", version)
    return Finding("python", f"{version}, not {allowed}", BROKEN, "make an environment with such a Python")


def _package(name: str, needed: Any) -> Finding:
    version, shown = installed(name), "opencv" if name == "opencv-python" else name
    extras = f"[{','.join(sorted(needed.extras))}]" if needed is not None and needed.extras else ""
    specifier = str(needed.specifier) if needed is not None else ""
    fix = f"pip install '{name}{extras}{specifier}'"
    if name == "sam2":
        return _sam2(version)
    if version is None:
        return Finding(shown, "missing", BROKEN, fix)
    if needed is not None and not needed.specifier.contains(version, prereleases=True):
        return Finding(shown, f"{version}, not {specifier}", BROKEN, fix)
    return Finding(shown, version)


def _sam2(version: str | None) -> Finding:
    # Of a clone of Meta's repository there may be the module alone.
    spec = find_spec("sam2")
    if spec is None:
        # Without these it installs a second torch to build against, and asks for a CUDA compiler.
        fix = "SAM2_BUILD_CUDA=0 pip install --no-build-isolation sam2"
        return Finding("sam2", "missing", BROKEN, fix)
    return Finding("sam2", version or f"from {', '.join(spec.submodule_search_locations or ['?'])}")


def _extra(extra: str) -> str:
    """Return how pip is asked for an extra of sam2vt, the way it is installed: from a clone, or by name."""
    clone = Path(sam2vt.__file__).resolve().parents[1]
    if not (clone / "pyproject.toml").is_file():
        return f"'sam2vt[{extra}]'"
    return f"-e '{'.' if clone == Path.cwd() else clone}[{extra}]'"
