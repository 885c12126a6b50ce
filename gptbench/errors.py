"""What can go wrong, and how the process ends.

GptbenchError
├── QuestionError          the question was wrong: option, name, file          exit 2
│   ├── UnknownNameError   a name nobody knows, with the nearest known ones
│   └── UnknownSchemaError a result of a version that is not known here
├── UnavailableError       it could not be done here                           exit 4
│   ├── OutOfMemoryError   not even the smallest batch fits
│   ├── WorkerDiedError    a worker process ended without an answer
│   ├── WorkerHungError    a worker process took longer than it could need
│   └── ImpossibleMfuError more than 100% of a peak that is sure
└── NotComparableError     other device or workload, or a baseline is missing  exit 5

A message is one or two sentences: the value in quotes, what is true, what to type instead.
"""

import difflib
from collections.abc import Iterable

EXIT_DONE = 0
EXIT_REGRESSED = 1
EXIT_QUESTION = 2
EXIT_INCONCLUSIVE = 3
EXIT_UNAVAILABLE = 4
EXIT_NOT_COMPARABLE = 5
EXIT_INTERRUPTED = 130


class GptbenchError(Exception):
    """Any failure that a person is told about in a sentence instead of a traceback."""

    exit_code = EXIT_UNAVAILABLE


class QuestionError(GptbenchError):
    """The question was wrong: a bad option, a bad value, a file that does not read."""

    exit_code = EXIT_QUESTION


class UnknownNameError(QuestionError):
    """A name that is not in a list of known names; the message ends with the nearest of them."""

    def __init__(self, kind: str, name: str, known: Iterable[str], see: str) -> None:
        nearest = difflib.get_close_matches(name.lower(), list(known), n=3, cutoff=0.5)
        hint = f" Nearest: {', '.join(repr(n) for n in nearest)}." if nearest else ""
        super().__init__(f"unknown {kind} {name!r}.{hint} {see}")


class UnknownSchemaError(QuestionError):
    """A result whose schema_version is not known here: it may be whole, and is not read."""


class UnavailableError(GptbenchError):
    """The question was good, but this machine cannot answer it."""


class OutOfMemoryError(UnavailableError):
    """Not even the smallest batch fits into the memory there is."""


class WorkerDiedError(UnavailableError):
    """A worker process ended without an answer: its signal or status, and its last words."""


class WorkerHungError(UnavailableError):
    """A worker process took longer than any that works could need, and was ended."""


class ImpossibleMfuError(UnavailableError):
    """A measurement above 100% of a peak that is sure: the accounting or the clock is wrong."""


class NotComparableError(GptbenchError):
    """Two records that do not answer the same question, or a baseline that is not there."""

    exit_code = EXIT_NOT_COMPARABLE
