"""Errors that cross a boundary: between user code and host, or host and client.

Sorted by whose fault they are. `AppError` is the application speaking to its
own client; everything else here is a mistake in a call, and carries the path
of the thing that is wrong. Codes are those of `function-semantics.md` 20, E5.
"""

from __future__ import annotations

from typing import Any, ClassVar


class TidewellError(Exception):
    """Base of every error a function or a caller may see. `code` is stable, the text is for people."""

    code: ClassVar[str] = "Error"


class AppError(TidewellError):
    """An error that the application means for its client.

    Args:
      data: any value of `function-semantics.md` 2; it reaches the client
        unchanged, as the `data` of a `ConvexError`.
    """

    code = "AppError"

    def __init__(self, data: Any = None) -> None:
        super().__init__(data)
        self.data = data


class FunctionError(TidewellError):
    """A nested call failed with something other than an `AppError`."""

    code = "FunctionError"

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path
        self.message = message


class InvalidValue(TidewellError):
    """A Python object that is not a value, or bytes that do not hold one."""

    code = "InvalidValue"

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path
        self.problem = problem


class ValidationFailed(TidewellError):
    """A value that is not what a validator asks for.

    Args:
      path: where, as `args.items[3].price`.
      found: kind and shortened text of what is there.
      expected: what the validator accepts.
    """

    code = "Validation"

    def __init__(self, path: str, problem: str, *, found: str = "", expected: str = "") -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path
        self.problem = problem
        self.found = found
        self.expected = expected


class SchemaValidationError(ValidationFailed):
    code = "SchemaValidation"


class InvalidId(TidewellError):
    """Text that is not the id of a document, or is one of another table."""

    code = "WrongTable"


class NotFound(TidewellError):
    """A write to a document that does not exist."""

    code = "NotFound"


class UniqueViolated(TidewellError):
    """Two documents under one key of a unique index."""

    code = "UniqueViolated"


class InvalidRange(TidewellError):
    """An index range that breaks the rules X1 to X3 of `function-semantics.md` 9."""

    code = "IndexRangeInvalid"


class UnknownIndex(TidewellError):
    """No index of that name on the table."""

    code = "IndexRangeInvalid"


class IndexNotReady(TidewellError):
    """The index exists, and its backfill has not reached the present."""

    code = "IndexNotReady"


class LimitExceeded(TidewellError):
    """One of the counters of `function-semantics.md` 19.2 passed its limit."""

    code = "LimitExceeded"

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.limit_code = code


class InvalidFunctionCall(TidewellError):
    """A call to a function that does not exist, is of another kind, or may not be called from here."""

    code = "InvalidFunctionCall"
