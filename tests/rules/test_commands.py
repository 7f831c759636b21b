"""Every command of the documentation can be typed: verbs, options, settings, targets and files exist.

A block of commands is marked `bash`. Commands in running text count where they have an argument.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from sam2vt import cli
from sam2vt.composing import compose_config, load_overrides
from sam2vt.configuration.sweep import load_sweep

from .graph import REPO

PAGES = [*sorted(REPO.glob("[!C]*.md")), *sorted((REPO / "docs").glob("*.md")), REPO / "CONTRIBUTING.md"]
PROGRAMS = ("sam2vt", "python", "make", "ray", "pip", "srun")
# Tools of others, of whose arguments only the files are checked.
FOREIGN = ("aws", "docker", "gcloud", "hf", "kubectl", "tensorboard", "git", "cd", "export", "sed", ".")
BLOCK = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
ANY_VIDEOS = "s3://bucket/videos"  # an address that no check looks up


def commands(page: Path) -> Iterator[str]:
    """The commands of a page, one per line or part of a line."""
    text = page.read_text()
    for language, block in BLOCK.findall(text):
        lines = re.sub(r"\\\n\s*", "", block).splitlines()
        if language == "bash":
            yield from (each for line in lines for each in line.split(" && "))
        else:
            assert not [line for line in lines if re.match(rf"\s*({'|'.join(PROGRAMS)}) \S", line)]
    for quoted in re.findall(r"`([^`\n]+)`", BLOCK.sub("", text)):
        if re.match(rf"({'|'.join(PROGRAMS)}) \S+ \S", quoted) and "..." not in quoted:
            yield quoted


EVERY = [
    (page, command) for page in PAGES for command in commands(page) if shlex.split(command, comments=True)
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run and the sweep that commands name."""
    folder = tmp_path_factory.mktemp("commands")
    config = OmegaConf.to_yaml(compose_config([f"dataset.data_path={ANY_VIDEOS}"]))
    for name in ("runs/mine/config.yaml", "runs/sweep/best/experiment.yaml"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(f"# @package _global_\n{config}")
    for name in ("runs/mine/checkpoints/best.ckpt", "weights/sam2.1_hiera_base_plus.pt"):
        (folder / name).parent.mkdir()
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    ("page", "command"), EVERY, ids=lambda each: each.name if isinstance(each, Path) else ""
)
def test_commands_can_be_typed(
    page: Path, command: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    words = shlex.split(command, comments=True)
    while re.fullmatch(r"[A-Z0-9_]+=.*", words[0]):  # the environment of one command
        words.pop(0)
    program, *rest = words
    assert program in CHECKS or program in FOREIGN, f"{program}: no check knows it"
    CHECKS.get(program, files_exist)(rest)


@pytest.mark.parametrize("goal", ["demo", "demo DATA=clip", "sweep-demo"])
def test_the_demos_commands_can_be_typed(goal: str) -> None:
    """Each trains on some videos and is judged on others."""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "OUT", "DATA")
    }
    command = ["make", "--dry-run", "--always-make", *goal.split()]
    done = subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True, check=True)
    lines = [
        shlex.split(line)
        for line in done.stdout.splitlines()
        if re.match(r"\.venv/bin/(sam2vt|python) [^-]", line)
    ]
    assert any(word in ("split=video", "split=time") for words in lines for word in words)
    for program, *rest in lines:
        CHECKS[Path(program).name](rest)
    written, read = (
        {words[place] for words in lines if words[1] == verb}
        for verb, place in (("sample-data", 2), ("predict", 3))
    )
    assert read <= written


def sam2vt(words: list[str]) -> None:
    verb, *rest = words
    if verb == "train":
        return settings_fit(rest)
    options, further = cli.parser_of(verb).parse_known_args(rest)
    overrides = [*getattr(options, "overrides", []), *further]
    if overrides:
        assert hasattr(options, "overrides"), f"unrecognized arguments: {further}"
        settings_fit(overrides)


def settings_fit(overrides: list[str], load: Callable[..., Any] | None = None) -> None:
    """The overrides compose, and the configuration passes every check but that its videos are there."""

    def with_videos(config: Any) -> None:
        for section in (config.dataset, config.valdataset, *config.valdatasets.values()):
            if section.get("data_path") and "://" not in section.data_path:
                section.data_path = ANY_VIDEOS
        config.dataset.data_path = config.dataset.data_path or ANY_VIDEOS

    loading = {"load": load} if load else {}
    load_overrides(overrides, change=with_videos, takes_options=True, **loading)


def python(words: list[str]) -> None:
    if words[0] == "-m":
        assert (REPO / f"{words[1].replace('.', '/')}.py").is_file()
        return
    assert (REPO / words[0]).is_file()
    if words[0] == "ray_jobs/train.py":
        settings_fit(words[1:])
    if words[0] == "ray_jobs/tune.py":
        settings_fit(words[1:], load_sweep)


def make(words: list[str]) -> None:
    text = (REPO / "Makefile").read_text()
    for word in words:
        name, is_variable, _ = word.partition("=")
        assert re.search(rf"^{name} \?=" if is_variable else rf"^{name}:", text, re.MULTILINE), word


def ray(words: list[str]) -> None:
    """What Ray's own command line parses; a job's entrypoint is a command, too."""
    from click import MissingParameter
    from ray.scripts.scripts import cli as group

    if "--" in words:
        place = words.index("--")
        words, (program, *rest) = words[:place], words[place + 1 :]
        CHECKS[program](rest)
        words = [*words, "--", program]
    files_exist(words)
    context = group.make_context("ray", list(words))
    command: Any = group
    # Running text may name a command without what it takes.
    with suppress(MissingParameter):
        while hasattr(command, "resolve_command"):
            name, command, words = command.resolve_command(context, list(words))
            context = command.make_context(name, list(words), parent=context)


def pip(words: list[str]) -> None:
    known = set(re.findall(r"^(\w+) = \[", (REPO / "pyproject.toml").read_text(), re.MULTILINE))
    for extras in re.findall(r"\.\[([\w,]+)\]", " ".join(words)):
        assert set(extras.split(",")) <= known
    files_exist(words)


def srun(words: list[str]) -> None:
    sam2vt(words[words.index("sam2vt") + 1 :])


def files_exist(words: list[str]) -> None:
    """Files of the repository that a command of somebody else's names."""
    named = [word for word in words if re.fullmatch(r"(deploy/.*|[a-z]+\.(txt|yaml|toml))", word)]
    assert not [word for word in named if not (REPO / word).exists()]


CHECKS: dict[str, Callable[[list[str]], None]] = {
    "sam2vt": sam2vt,
    "python": python,
    "make": make,
    "ray": ray,
    "pip": pip,
    "srun": srun,
}
