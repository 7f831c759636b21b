"""Errors for users: each says what was got, what is allowed, where, and what to do."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

SIGTERM_EXIT_CODE = 143  # 128 + 15, what a shell reports for a process ended by SIGTERM
SIGINT_EXIT_CODE = 130  # 128 + 2, by Ctrl-C
# Signals that end a training once it has saved. SIGHUP comes where the terminal is closed.
EXIT_CODES = {signal.SIGTERM: SIGTERM_EXIT_CODE, signal.SIGINT: SIGINT_EXIT_CODE, signal.SIGHUP: 129}


class Sam2vtError(Exception):
    """Base class of every error that this package raises on purpose.

    The command line ends with `exit_code`: 2 for bad input, 3 for a failed training.
    """

    exit_code = 2


class ConfigError(Sam2vtError, ValueError):
    """A configuration that cannot be run; its message lists every fault that was found.

    If there may be several, `faults` lists them one by one.
    """

    def __init__(self, message: str = "", faults: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.faults = list(faults)

    @classmethod
    def listing(cls, what: str, faults: Sequence[str]) -> ConfigError:
        """Return the error of all `faults` of `what`, one per line, each once.

        A misspelt setting is not also reported as missing.
        """
        meant = re.findall(r"did you mean (\S+)\?", "\n".join(faults))
        told = [each for each in faults if "has to be given" in each and re.split("[=:]", each)[0] in meant]
        once = [each for each in dict.fromkeys(faults) if each not in told]
        number = "1 fault" if len(once) == 1 else f"{len(once)} faults"
        return cls("\n".join([f"{what} has {number}:", *(f"  - {fault}" for fault in once)]), once)


class DataError(Sam2vtError, ValueError):
    """A dataset, video or mask that cannot be used; its message names the file, frame or object.

    `place` gives the same to programs, as far as it is known; frames count from 0, objects are ids.
    """

    def __init__(
        self,
        message: str = "",
        *,
        video: str | None = None,
        file: str | None = None,
        frame: int | None = None,
        object: int | None = None,
    ) -> None:
        super().__init__(message)
        self.place: dict[str, Any] = {"video": video, "file": file, "frame": frame, "object": object}

    def at(self, **place: Any) -> DataError:
        """Return the same error, with parts of its place that it did not know yet."""
        for name, value in place.items():
            self.place[name] = value if self.place[name] is None else self.place[name]
        return self


@contextmanager
def located(**place: Any) -> Iterator[None]:
    """Add the known place to a DataError that the block raises."""
    try:
        yield
    except DataError as error:
        error.at(**place)
        raise


class CheckpointError(Sam2vtError, ValueError):
    """A checkpoint that cannot be read, or does not belong to the model it is loaded into."""


class TrainingError(Sam2vtError, RuntimeError):
    """A training that had to stop, such as on a non-finite loss."""

    exit_code = 3


@contextmanager
def exit_on_error() -> Iterator[None]:
    """End the process with the error's message on stderr and its exit code, without a traceback.

    Ctrl-C ends the same way, unless it was handled before.
    """
    try:
        yield
    except SystemExit as end:
        if end.code in EXIT_CODES.values():
            with suppress(ValueError):  # not in the main thread
                for number in (signal.SIGTERM, signal.SIGHUP):  # a second one would change the exit code
                    signal.signal(number, signal.SIG_IGN)
        raise
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(SIGINT_EXIT_CODE) from None
    except Sam2vtError as error:
        print(f"error: {own_message(error)}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except OSError as error:
        if error.filename is None:
            raise
        print(f"error: {error.filename}: {error.strerror or error}", file=sys.stderr)
        raise SystemExit(Sam2vtError.exit_code) from None


def own_message(error: Sam2vtError) -> str:
    """Return the error's own words, without those that a data-loader worker wraps around them."""
    text = str(error)
    if not text.startswith(f"Caught {type(error).__name__} in"):
        return text
    return text.rpartition(f"{type(error).__module__}.{type(error).__name__}: ")[2].strip()


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, at most 200 characters, for our messages."""
    return (str(error) or type(error).__name__).splitlines()[0][:200]
