"""Readers of fields with labelled points: each returns its images and points in one form."""

from collections.abc import Callable, Sequence
from pathlib import Path

from mitoscope.training.data.field_sources.layout import LabelledFields
from mitoscope.training.data.field_sources.midogpp import read_midogpp
from mitoscope.training.data.field_sources.mitos import read_icpr12, read_mitos14
from mitoscope.training.data.field_sources.truth import read_truth
from mitoscope.training.data.field_sources.yolo import read_yolo

FIELD_READERS: dict[str, Callable[[Sequence[Path]], LabelledFields]] = {  # by option of the command line
    "mitos14": read_mitos14,
    "icpr12": read_icpr12,
    "midogpp": read_midogpp,
    "yolo": read_yolo,
    "truth": read_truth,
}
