"""OMG-Octo Atypical: Shen et al. 2025, Zenodo 16107743, eight tumour types."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mitoscope.training.data.sources.layout import counted, find_parts, one_table, read_csv, to_labels

COUNTS = {"atypical": 1378, "normal": 379}
CLASSES = {"MF": "normal", "AMF": "atypical"}


@dataclass(frozen=True)
class OmgOcto:
    """OMG-Octo Atypical: mitotic figures labelled ``MF`` (normal) and ``AMF``, chosen so that most are atypical.

    The record itself could not be looked at. The columns, the two labels, the counts and file names of the form
    ``<slide>_x<tile>_y<tile>_<box>.png`` are those with which github.com/krausara/MIDOG2025 reads it. Rows with other
    labels are left out there, and here, with a line that counts them. The cancer type and the place of a tile in its
    slide are not known from the table. That the crops are 128 px wide is not known either: others are refused.

    Attributes:
        table: The CSV with ``image_file`` and ``label``.
        crops: The folder of PNGs that ``image_file`` names. Optional.
    """

    table: Path
    crops: Path | None = None

    @classmethod
    def at(cls, paths: Sequence[Path]) -> "OmgOcto":
        """The data set at the paths named on the command line."""
        tables, crops = find_parts("--omg-octo", paths)
        return cls(one_table("--omg-octo", tables, "the CSV with image_file and label"), crops)

    def rows(self) -> pd.DataFrame:
        """One row a figure, in the published table's order; see `mitoscope.training.data.sources.Source`."""
        published = read_csv(self.table, ["image_file", "label"])
        others = ~published["label"].isin(list(CLASSES))
        if others.any():
            print(
                f"left out of OMG-Octo: rows with the labels {published.loc[others, 'label'].value_counts().to_dict()}"
            )
        published = published[~others]
        name, files = "OMG-Octo", published["image_file"]
        rows = pd.DataFrame(
            {
                "image_id": f"{name}/" + files.str.removesuffix(".png"),
                "label": to_labels(published["label"], CLASSES, self.table),
                "domain": None,
                "case": f"{name}/" + files.str.partition("_")[0],
                "source": name,
                "cohort": name,
            }
        )
        if self.crops:
            rows["path"] = f"{self.crops}/" + files
        counted(rows, name, COUNTS)
        return rows
