"""The table of verbs, and the codes that they end with."""

from __future__ import annotations

import subprocess
import sys

import pytest

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
