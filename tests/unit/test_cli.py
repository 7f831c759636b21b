"""The table of verbs, and the codes that they end with."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import sam2vt
from sam2vt import cli
from sam2vt.errors import CheckpointError, ConfigError, TrainingError, exit_on_error

HEAVY = ("torch", "ray", "lightning", "hydra", "omegaconf", "sam2")


def loaded_by(*arguments: str) -> str:
    """The heavy packages that the command line has loaded when it has printed its help."""
    code = (
        f"import sys\nfrom sam2vt import cli\ntry:\n    cli.main({list(arguments)})\nexcept SystemExit:\n"
        f"    print('LOADED', [m for m in {HEAVY} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip().splitlines()[-1]


def exit_code(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("--help") == 0
    shown = capsys.readouterr().out
    assert all(verb in shown for verb in cli.VERBS)


@pytest.mark.parametrize("verb", [None, *(verb for verb in cli.VERBS if verb != "train")])
def test_help_loads_nothing_heavy(verb: str | None) -> None:
    assert loaded_by(*([verb] if verb else []), "--help") == "LOADED []"


def test_without_a_verb_it_shows_them_in_groups(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main([])
    shown = capsys.readouterr().out
    assert [shown.index(f"{heading}:") for heading in cli._HEADINGS.values()]
    assert all(f"  {verb} " in shown for verb in cli.VERBS)
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_has_an_example_that_can_be_typed(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    example = shlex.split(cli.VERBS[verb].example)
    if verb == "train":
        from sam2vt.composing import load_overrides

        monkeypatch.chdir(tmp_path)
        (tmp_path / "my_videos").mkdir()
        load_overrides(example)
        return
    options, rest = cli.parser_of(verb).parse_known_args(example)
    assert not rest
    assert options
    assert exit_code(verb, "--help") == 0
    assert f"sam2vt {verb} {cli.VERBS[verb].example}" in capsys.readouterr().out


def test_the_help_of_train_fits_a_screen_and_loads_nothing_heavy(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["train", "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 90
    assert any("docs/settings.md" in line for line in lines)
    told = f"print([m for m in {HEAVY} if m in sys.modules])"
    code = f"import sys\nfrom sam2vt import cli\ncli.main(['train', '-h'])\n{told}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"


def test_version_and_module(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("--version") == 0
    assert capsys.readouterr().out == f"sam2vt {sam2vt.__version__}\n"
    done = subprocess.run(
        [sys.executable, "-m", "sam2vt", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"sam2vt {sam2vt.__version__}\n"


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("sam2vt pre", {"predict", "preview"}),
        ("sam2vt evaluate --aga", {"--against"}),
        ("sam2vt predict a b --direction b", {"backward", "both"}),
        ("sam2vt train optimizer.l", {"optimizer.lr=", "optimizer.layer_decay="}),
    ],
)
def test_a_shell_completes_verbs_options_and_settings(line: str, offered: set[str], tmp_path: Path) -> None:
    answer = tmp_path / "answer"
    environment = os.environ | {
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(answer),
        "_ARGCOMPLETE_SUPPRESS_SPACE": "1",
        "_ARGCOMPLETE_IFS": "\n",
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
        "COMP_TYPE": "9",
    }
    subprocess.run([sys.executable, "-m", "sam2vt"], env=environment, check=True, capture_output=True)
    assert {each.strip() for each in answer.read_text().split("\n")} == offered


def test_a_reader_that_has_seen_enough_gets_no_traceback(tmp_path: Path) -> None:
    command = f"{shlex.quote(sys.executable)} -m sam2vt train --help | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.splitlines()[0].startswith("usage: sam2vt train")


def test_a_closed_output_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of `sam2vt ... >&-`, or of a service."""
    monkeypatch.setattr(sys, "stdout", None)
    cli.main(["sample-data", str(tmp_path / "data"), "--videos", "1", "--frames", "4"])
    assert (tmp_path / "data" / "Annotations").is_dir()


def test_an_unknown_verb_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("tarin") == 2
    assert "tarin: no such verb, did you mean train?" in capsys.readouterr().err


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_is_a_module_with_its_arguments(verb: str) -> None:
    module = cli._module_of(verb)
    assert callable(module.run)
    assert hasattr(module, "add_arguments") == (verb != "train")
    if verb != "train":
        assert cli.parser_of(verb).prog == f"sam2vt {verb}"


@pytest.mark.parametrize(
    ("error", "code"), [(ConfigError("a"), 2), (CheckpointError("a"), 2), (TrainingError("a"), 3)]
)
def test_errors_end_with_their_code_and_message(
    error: Exception, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught, exit_on_error():
        raise error
    assert caught.value.code == code
    assert capsys.readouterr().err == "error: a\n"


@pytest.mark.parametrize("verb", ["train", "validate", "pack"])
def test_names_that_are_not_utf8_are_refused(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(verb, "data", "caf\udce9") == 2
    assert "caf\\udce9: is not UTF-8 text; allowed are names in UTF-8: rename it" in capsys.readouterr().err


def test_a_removed_working_directory_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert exit_code("train", "model=nano", f"dataset.data_path={tmp_path}") == 2
    said = "error: the working directory was removed; change to one that exists, as by cd ~\n"
    assert capsys.readouterr().err == said
