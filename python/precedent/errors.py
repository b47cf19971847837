"""Every exception this library raises.

::

    PrecedentError
    ├── ValidationError (ValueError)        an argument has a value, kind or range it must not have
    │   ├── DimensionError                  a vector is not as long as its store or layer needs
    │   └── EncoderMismatchError            another encoder made the states of this store
    ├── NotFoundError (KeyError)            nothing has this id
    ├── StorageError                        the file could not do what was asked
    │   ├── AccessError                     permission, or a folder in the file's place
    │   ├── BusyError                       another process held the lock beyond the timeout
    │   ├── ClosedError                     a use after `close`
    │   ├── CorruptionError                 the file contradicts itself
    │   ├── DiskFullError                   no room left
    │   ├── FormatError                     a file of another program
    │   ├── ReadOnlyError                   a write to something opened for reading
    │   └── VersionError                    a file of a newer version
    ├── TrainingError                       training cannot go on
    │   └── NotTrainedError                 a prediction was asked of a layer that never learned
    ├── InsufficientDataError               too few trajectories match to train on
    └── NoActionError                       no tier of the cascade had an answer

Messages are sentences. The compiled core raises these very classes. All of them pickle with their fields.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "AccessError",
    "BusyError",
    "ClosedError",
    "CorruptionError",
    "DimensionError",
    "DiskFullError",
    "EncoderMismatchError",
    "FormatError",
    "InsufficientDataError",
    "NoActionError",
    "NotFoundError",
    "NotTrainedError",
    "PrecedentError",
    "ReadOnlyError",
    "StorageError",
    "TrainingError",
    "ValidationError",
    "VersionError",
]


class PrecedentError(Exception):
    """The root: catches whatever this library raises on purpose."""


class ValidationError(PrecedentError, ValueError):
    """An argument has a value, kind or range it must not have.

    The message names the argument (with its position where there are many), what was expected and what came.
    Nothing was written.
    """


class DimensionError(ValidationError):
    """A vector is not as long as its store or layer needs.

    Attributes:
        expected: The dimensions of the store or layer.
        got: The dimensions that came.
    """

    expected: int | None
    got: int | None

    def __init__(self, message: str, expected: int | None = None, got: int | None = None) -> None:
        """Keep both numbers beside the sentence."""
        super().__init__(message)
        self.expected = expected
        self.got = got


class EncoderMismatchError(ValidationError):
    """Another encoder made the states of this store or layer.

    Attributes:
        stored: The fingerprint in the file.
        given: The fingerprint of the encoder that was given.
    """

    stored: str | None
    given: str | None

    def __init__(self, message: str, stored: str | None = None, given: str | None = None) -> None:
        """Keep both fingerprints beside the sentence."""
        super().__init__(message)
        self.stored = stored
        self.given = given


class NotFoundError(PrecedentError, KeyError):
    """Nothing has this id. A `KeyError` that reads as a sentence."""

    def __str__(self) -> str:
        """Return the message without the quotes that `KeyError` puts around it."""
        return Exception.__str__(self)


class StorageError(PrecedentError):
    """The file could not do what was asked of it. The cause is chained."""


class AccessError(StorageError):
    """The path cannot be opened: permissions, or a folder in the file's place."""


class BusyError(StorageError):
    """Another process held the lock longer than the timeout."""


class ClosedError(StorageError):
    """A use after `close`, or of something that was opened before a fork."""


class CorruptionError(StorageError):
    """The file contradicts itself."""


class DiskFullError(StorageError):
    """No room left on the disk. What was being written is as if it had never begun."""


class FormatError(StorageError):
    """The file belongs to another program."""


class ReadOnlyError(StorageError):
    """A write to something that was opened with `read_only=True`."""


class VersionError(StorageError):
    """A newer version of this library wrote the file."""


class TrainingError(PrecedentError):
    """Training cannot go on: a loss or a gradient is not a number. The last good weights are kept."""


class NotTrainedError(TrainingError):
    """A prediction was asked of a layer that never learned."""


class InsufficientDataError(PrecedentError):
    """Too few trajectories match to train on.

    Attributes:
        required: How many are needed (`min_trajectories`).
        available: How many match.
    """

    required: int
    available: int

    def __init__(self, message: str, required: int, available: int) -> None:
        """Keep both counts beside the sentence."""
        super().__init__(message)
        self.required = required
        self.available = available

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle with the counts, which the constructor asks for."""
        return type(self), (str(self), self.required, self.available), self.__dict__


class NoActionError(PrecedentError):
    """No tier of the cascade had an answer.

    Attributes:
        lacked: For each tier (1 to 4) what it lacked, as a phrase.
    """

    lacked: dict[int, str]

    def __init__(self, message: str, lacked: Mapping[int, str] | None = None) -> None:
        """Keep the reasons beside the sentence."""
        super().__init__(message)
        self.lacked = dict(lacked or {})
