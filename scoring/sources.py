"""What a result was computed from and by what, without a path of this machine."""

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from scoring.files import hash_files
from scoring.provenance import read_commit
from scoring.tables import BY_FOLDER, read_record, record_of

LIBRARIES = ("numpy", "pandas", "scipy", "scikit-learn", "grand-challenge-metrics", "matplotlib")


def describe_code() -> dict[str, Any]:
    """The commit, and the versions of what computes."""
    versions = {"python": sys.version.split()[0], **{name: version(name) for name in LIBRARIES}}
    return {"commit": read_commit(), "versions": versions}


def describe_file(path: Path) -> dict[str, Any]:
    """A file's name and SHA-256."""
    return {"name": path.name, "sha256": hash_files([path])}


def describe_predictions(predictions_csv: Path) -> dict[str, Any]:
    """As `describe_file`, with the record that `predict` wrote beside it; None where there is none."""
    record = record_of(predictions_csv)
    return {**describe_file(predictions_csv), "record": read_record(record) if record.is_file() else None}


def describe_labels(labels: str) -> dict[str, Any]:
    """As `describe_file`; or that the folders' names are the labels."""
    return {"name": BY_FOLDER, "sha256": None} if labels == BY_FOLDER else describe_file(Path(labels))
