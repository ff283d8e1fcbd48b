"""Read a prepared data folder, whatever it was prepared for."""

from pathlib import Path

from mitoscope.training.data.fields import FIELDS, read_fields
from mitoscope.training.data.samples import Samples
from mitoscope.training.data.table import read_data


def read_samples(folder: Path) -> Samples:
    """Read crops, or fields where the folder holds some.

    Raises:
        DataError: It holds neither, or not completely.
    """
    return read_fields(folder) if (folder / FIELDS).is_file() else read_data(folder)
