"""Errors: one tree, readable messages, fields that survive pickling."""

import errno
import inspect
import pickle

import pytest

import precedent
from precedent import errors
from precedent.errors import (
    ClosedError,
    DimensionError,
    EncoderMismatchError,
    InsufficientDataError,
    NoActionError,
    NotFoundError,
    NotTrainedError,
    PrecedentError,
    StorageError,
    TrainingError,
    ValidationError,
)

SPECIAL = {
    DimensionError: DimensionError("state: expected 4 dimensions, got 3", 4, 3),
    EncoderMismatchError: EncoderMismatchError("made by 'a', not 'b'", "a", "b"),
    InsufficientDataError: InsufficientDataError("needs 100, has 7", 100, 7),
    NoActionError: NoActionError("nothing answered", {1: "no precedent", 3: "no network"}),
}


def examples():
    classes = [getattr(errors, name) for name in errors.__all__]
    return [SPECIAL.get(cls) or cls("the message") for cls in classes]


def test_all_that_is_public_is_an_exception_of_the_tree():
    classes = {cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, Exception)}
    assert classes == {getattr(errors, name) for name in errors.__all__}
    assert all(issubclass(cls, PrecedentError) for cls in classes)


@pytest.mark.parametrize("error", examples(), ids=lambda error: type(error).__name__)
def test_every_error_survives_pickling_with_its_fields(error):
    error.add_note("seen in a worker")
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert vars(back) == vars(error)


@pytest.mark.parametrize("error", examples(), ids=lambda error: type(error).__name__)
def test_every_error_reads_as_its_message(error):
    expected = str(SPECIAL.get(type(error), "the message"))
    assert str(error) == expected
    assert not str(error).startswith("'")


@pytest.mark.parametrize(
    ("cls", "base"),
    [
        (ValidationError, ValueError),
        (NotFoundError, KeyError),
        (DimensionError, ValidationError),
        (EncoderMismatchError, ValidationError),
        (NotTrainedError, TrainingError),
        *[
            (getattr(errors, name), StorageError)
            for name in (
                "AccessError",
                "BusyError",
                "ClosedError",
                "CorruptionError",
                "DiskFullError",
                "FormatError",
                "ReadOnlyError",
                "VersionError",
            )
        ],
    ],
)
def test_each_error_is_caught_by_its_kind(cls, base):
    assert issubclass(cls, base)


def test_validation_is_no_storage_problem_and_the_other_way_round():
    assert not issubclass(ValidationError, StorageError)
    assert not issubclass(ClosedError, ValueError)


def test_the_fields_say_what_a_program_needs():
    assert (SPECIAL[DimensionError].expected, SPECIAL[DimensionError].got) == (4, 3)
    assert (SPECIAL[EncoderMismatchError].stored, SPECIAL[EncoderMismatchError].given) == ("a", "b")
    assert (SPECIAL[InsufficientDataError].required, SPECIAL[InsufficientDataError].available) == (100, 7)
    assert SPECIAL[NoActionError].lacked == {1: "no precedent", 3: "no network"}


def test_an_error_of_the_system_is_the_cause_with_its_number(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.AccessError) as raised:
        precedent.TrajectoryStore(tmp_path / "file" / "agent.db")
    assert isinstance(raised.value.__cause__, NotADirectoryError)
    assert raised.value.__cause__.errno == errno.ENOTDIR


def test_an_error_of_the_system_does_not_speak_of_a_temporary_file(tmp_path):
    layer = precedent.DecisionLayer(2, 2, hidden_size=2)
    with pytest.raises(errors.StorageError) as raised:
        layer.save(tmp_path / "missing" / "layer.weights")
    assert ".tmp" not in str(raised.value)
    assert isinstance(raised.value.__cause__, FileNotFoundError)
