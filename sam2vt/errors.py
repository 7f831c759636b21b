"""Errors that a user can meet. Each says what was got, what is allowed, where, and what to do."""


class Sam2vtError(Exception):
    """Base of every error this package raises on purpose.

    `exit_code` is what the command line ends with: 2 for bad input, 3 for a training that failed.
    """

    exit_code = 2


class ConfigError(Sam2vtError, ValueError):
    """A configuration that cannot be run; its message lists every fault that was found."""


class DataError(Sam2vtError, ValueError):
    """A dataset, video or mask that cannot be used; its message names the file, frame or object."""


class CheckpointError(Sam2vtError, ValueError):
    """A checkpoint that cannot be read, or does not belong to the model it is loaded into."""


class TrainingError(Sam2vtError, RuntimeError):
    """A training that had to stop, such as on a non-finite loss."""

    exit_code = 3
