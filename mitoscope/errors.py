"""Every failure that outside data or a wrong setting can cause, as one tree of one-line errors.

Grand Challenge shows a user the last line of stderr alone, so the message is the whole explanation.
"""

from collections.abc import Sequence

LONGEST = 400  # characters of what was got: the platform shows 1,024 of a line
# How torch, C++, CUDA's libraries and the loader of shared libraries word it, each in an error of its own.
OUT_OF_MEMORY = ("allocate memory", "out of memory", "bad_alloc", "failed to map segment", "ALLOC_FAILED")
MAYBE_OUT_OF_MEMORY = ("could not create a primitive",)  # oneDNN words every failure so


class MitoscopeError(Exception):
    """A failure whose message says what went wrong, what was got, what was expected and what to do.

    Args:
        what: What is wrong and where, e.g. ``"page 3 of stack.tif has the wrong size"``.
        got: What was found, shown as given.
        expected: What should have been there.
        remedy: What the user can do about it.
    """

    def __init__(self, what: str, *, got: object, expected: str, remedy: str) -> None:
        self.what, self.got, self.expected, self.remedy = what, got, expected, remedy
        super().__init__(one_line(f"{_cut(what)}: got {_cut(got)}, expected {_cut(expected)}; {remedy}"))

    def __reduce__(self) -> tuple[object, ...]:
        fields = {"got": self.got, "expected": self.expected, "remedy": self.remedy}
        return (_rebuild, (type(self), self.what, fields))


def one_line(text: str) -> str:
    """A text as one printable line, whatever the data held: no line's end, no control code, no half of a character."""
    shown = (letter if letter.isprintable() else ascii(letter)[1:-1] for letter in " ".join(text.split()))
    return "".join(shown)


def _cut(value: object) -> str:
    """A value as text that leaves room for the rest of the line."""
    text = one_line(str(value)[: 2 * LONGEST])  # cut once more, since what cannot be printed grows
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _rebuild(kind: type[MitoscopeError], what: str, fields: dict[str, str]) -> MitoscopeError:
    """Unpickle an error that crossed a process boundary (keyword-only arguments defeat the default)."""
    return kind(what, **fields)


def describe_memory_error(error: Exception, known: Sequence[str] = OUT_OF_MEMORY) -> str:
    """``"out of memory (…)"`` where any library's error has one of the known wordings; else empty."""
    words = str(error)
    if isinstance(error, MemoryError) or any(wording in words for wording in known):
        return f"out of memory ({words})" if words else "out of memory"
    return ""


class InputError(MitoscopeError):
    """The case that was handed in cannot be read as a stack of crops."""


class WeightsError(MitoscopeError):
    """The weights bundle is missing, incomplete, altered or of another architecture."""


class OutputError(MitoscopeError):
    """The result cannot be written."""


class DeviceError(MitoscopeError):
    """The asked-for device or precision is not available, or gave a result that is no number."""


class DataError(MitoscopeError):
    """A training table, fold file or run folder cannot be used as it is."""
