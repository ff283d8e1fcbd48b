"""AtNorM-Br and AtNorM-MD: the two held-out sets of Banerjee et al. 2026, arXiv 2506.21444.

Both are folders of github.com/DeepMicroscopy/AMi-Br_Benchmark with ``Atypical/`` and ``Normal/``; that repository's
notebooks read them so. File names do not name the slide.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mitoscope.errors import DataError
from mitoscope.training.data.sources.layout import BREAST, counted, find_parts, list_crops

BR_COUNTS = {"atypical": 128, "normal": 618}
MD_TOTAL = range(2097, 2113)  # the benchmark's notebooks run over it in 132 batches of 16


@dataclass(frozen=True)
class AtnormBr:
    """AtNorM-Br: human breast cancer of TCGA.

    Attributes:
        crops: Holds ``Atypical/`` and ``Normal/`` of PNG crops; None: no such folder was found.
    """

    crops: Path | None

    @classmethod
    def at(cls, paths: Sequence[Path]) -> "AtnormBr":
        """The data set at the folder named on the command line."""
        return cls(find_parts("--atnorm-br", paths)[1])

    def rows(self) -> pd.DataFrame:
        """One row a file, by class and name; see `mitoscope.training.data.sources.Source`."""
        rows = list_crops(self.crops)
        counted(rows, "AtNorM-Br", BR_COUNTS)
        name = "AtNorM-Br"
        return rows.assign(
            image_id=f"{name}/" + rows["image_id"], domain=BREAST, source=name, cohort=name, species="human"
        )


@dataclass(frozen=True)
class AtnormMd:
    """AtNorM-MD: a subset of MIDOG++, several cancers and species. It does not name the cancer of a crop.

    Its slides are among MIDOG25's, and it does not name them, so the two cannot be in one table (see `prepare`). Its
    published counts a class could not be checked, nor that its files are PNGs; the total is.

    Attributes:
        crops: Holds ``Atypical/`` and ``Normal/`` of PNG crops; None: no such folder was found.
    """

    crops: Path | None

    @classmethod
    def at(cls, paths: Sequence[Path]) -> "AtnormMd":
        """The data set at the folder named on the command line."""
        return cls(find_parts("--atnorm-md", paths)[1])

    def rows(self) -> pd.DataFrame:
        """One row a file, by class and name; see `mitoscope.training.data.sources.Source`."""
        rows = list_crops(self.crops)
        if len(rows) not in MD_TOTAL:
            raise DataError(
                "AtNorM-MD is not the published one",
                got=rows["label"].value_counts().to_dict(),
                expected=f"{MD_TOTAL.start} to {MD_TOTAL.stop - 1} PNGs in Atypical/ and Normal/",
                remedy="download all of its current version again",
            )
        name = "AtNorM-MD"
        return rows.assign(image_id=f"{name}/" + rows["image_id"], domain=None, source=name, cohort=name)
