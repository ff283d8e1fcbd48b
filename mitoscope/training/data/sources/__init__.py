"""Readers of data sets: each returns rows of the common table; those of published sets check the published counts."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import pandas as pd

from mitoscope.training.data.sources.ami_br import AmiBr
from mitoscope.training.data.sources.atnorm import AtnormBr, AtnormMd
from mitoscope.training.data.sources.midog25 import Midog25
from mitoscope.training.data.sources.omg_octo import OmgOcto
from mitoscope.training.data.sources.own import OwnCrops


class Source(Protocol):
    """A data set, as published or one's own."""

    def rows(self) -> pd.DataFrame:
        """One row a crop, with those columns of `table` that the data set knows; ``path`` only with crops.

        Raises:
            DataError: The data set is incomplete, or not the published one.
        """


# By option of the command line. Of two copies of a crop the one of the earlier data set is kept: AMi-Br before
# MIDOG25, as it knows sub-classes and is what the paper's breast row counts.
READERS: dict[str, Callable[[Sequence[Path]], Source]] = {
    "ami_br": AmiBr.at,
    "midog25": Midog25.at,
    "atnorm_br": AtnormBr.at,
    "atnorm_md": AtnormMd.at,
    "omg_octo": OmgOcto.at,
    "crops": OwnCrops.at,
}
