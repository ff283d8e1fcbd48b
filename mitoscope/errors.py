"""One tree of one-line errors for every failure that outside data or a wrong setting can cause.

Grand Challenge shows users only the last line of stderr, so the message must explain everything.
"""

from collections.abc import Sequence

LONGEST = 400  # characters of each part of a message: the platform shows 1,024 of a line
# The wordings of torch, C++, CUDA's libraries and the loader of shared libraries.
OUT_OF_MEMORY = ("allocate memory", "out of memory", "bad_alloc", "failed to map segment", "ALLOC_FAILED")
MAYBE_OUT_OF_MEMORY = ("could not create a primitive",)  # oneDNN has one wording for every failure


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
    """Make a text one printable line: no line break, no control code, no lone surrogate."""
    shown = (letter if letter.isprintable() else ascii(letter)[1:-1] for letter in " ".join(text.split()))
    return "".join(shown)


def _cut(value: object) -> str:
    """Shorten a value's text, so that the rest of the line has room."""
    text = one_line(str(value)[: 2 * LONGEST])  # cut again below: escaped characters are longer
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _rebuild(kind: type[MitoscopeError], what: str, fields: dict[str, str]) -> MitoscopeError:
    """Unpickle an error from another process (the default cannot pass keyword-only arguments)."""
    return kind(what, **fields)


def describe_memory_error(error: Exception, known: Sequence[str] = OUT_OF_MEMORY) -> str:
    """``"out of memory (…)"`` where any library's error has one of the known wordings; else empty."""
    words = str(error)
    if isinstance(error, MemoryError) or any(wording in words for wording in known):
        return f"out of memory ({words})" if words else "out of memory"
    return ""


class InputError(MitoscopeError):
    """An image, or a case, cannot be read."""


class WeightsError(MitoscopeError):
    """The weights bundle is missing, incomplete, altered or of another architecture."""


class OutputError(MitoscopeError):
    """The result cannot be written."""


class DeviceError(MitoscopeError):
    """The device or precision is not available, or a result is not finite."""


class DataError(MitoscopeError):
    """An option, a table or a folder of results cannot be used as it is."""
