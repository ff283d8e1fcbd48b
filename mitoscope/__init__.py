"""mitoscope: which mitotic figures are atypical, where they are, and how many (MIDOG 2025, both tracks).

The names that a user needs are here; they load torch only when they are used.

Example:
    Score a stack of crops with the default weights:

    >>> from pathlib import Path
    >>> import mitoscope
    >>> classifier = mitoscope.Classifier.load()
    >>> (stack,) = Path("test/input/interf0").rglob("*.tiff")
    >>> crops = mitoscope.read_crops(stack)
    >>> p_atypical = classifier.predict_proba(crops)  # float64 (16,)
    >>> is_atypical = p_atypical >= classifier.threshold
    >>> crops.shape, int(is_atypical[8:].sum())
    ((16, 128, 128, 3), 6)
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mitoscope.classify.classifier import Classifier
    from mitoscope.detect.detector import Detector
    from mitoscope.errors import MitoscopeError
    from mitoscope.images.crops import read_crops
    from mitoscope.images.slide import open_slide

__all__ = ["Classifier", "Detector", "MitoscopeError", "open_slide", "read_crops"]
_HOMES = {
    "Classifier": "mitoscope.classify.classifier",
    "Detector": "mitoscope.detect.detector",
    "MitoscopeError": "mitoscope.errors",
    "open_slide": "mitoscope.images.slide",
    "read_crops": "mitoscope.images.crops",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    """Import a public name when it is first used: importing torch takes a second."""
    if name not in _HOMES:
        raise AttributeError(f"module 'mitoscope' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
