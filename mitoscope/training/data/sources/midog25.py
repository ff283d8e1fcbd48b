"""MIDOG25: the training set of the MIDOG 2025 challenge, Track 2 (Weiss et al., Zenodo 15188326)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mitoscope.training.data.sources.layout import (
    BREAST,
    NMF_AMF,
    counted,
    find_parts,
    one_table,
    read_csv,
    to_labels,
    to_pixels,
    to_votes,
)

CANCERS = {  # atypical, normal
    "canine cutaneous mast cell tumor": (351, 1976),
    "canine lung cancer": (110, 745),
    "canine lymphoma": (317, 3642),
    "canine soft tissue sarcoma": (210, 1076),
    BREAST: (404, 1317),
    "human melanoma": (271, 879),
    "human neuroendocrine tumor": (85, 554),
}
COUNTS = {
    (cancer, label): n
    for cancer, counts in CANCERS.items()
    for label, n in zip(("atypical", "normal"), counts, strict=True)
}
EXPERTS = ["expert1", "expert2", "expert3"]
COLUMNS = ["image_id", "filename", "coordinateX", "coordinateY", "Tumor", "Scanner", "Species", "majority", *EXPERTS]


@dataclass(frozen=True)
class Midog25:
    """MIDOG25: the figures of MIDOG++ (Aubreville et al. 2023), seven cancers, each normal or atypical.

    ``coordinateX`` and ``coordinateY`` are the figure's centre in the slide's pixels. The human breast cancer is
    MIDOG21's, and all of it is in AMi-Br too, with the same coordinates and labels; its slides are named as there. The
    scanner of those slides is misspelt as ``Hamammatsu XR`` in the published table and read as ``Hamamatsu XR``, as
    that of the other human slides is spelt.

    An earlier version of the published table has 11,939 rows: it lists two figures of slide 085.tiff twice, all
    four as 8925.png. It is refused by its counts.

    Attributes:
        table: MIDOG25_Atypical_Classification_Train_Set.csv, also seen as MIDOG25.csv.
        crops: The folder of PNGs that ``image_id`` names, MIDOG25_Binary_Classification_Train_Set. Optional.
    """

    table: Path
    crops: Path | None = None

    @classmethod
    def at(cls, paths: Sequence[Path]) -> "Midog25":
        """The data set at the paths named on the command line."""
        tables, crops = find_parts("--midog25", paths, unpacked_as="MIDOG25_Binary_Classification_Train_Set")
        return cls(one_table("--midog25", tables, "MIDOG25.csv"), crops)

    def rows(self) -> pd.DataFrame:
        """One row a crop, in the published table's order; see `mitoscope.training.data.sources.Source`."""
        published = read_csv(self.table, COLUMNS, may_be_empty=["expert3"])
        cohort = published["Tumor"].map({BREAST: "MIDOG21"}).fillna("MIDOG++")
        rows = pd.DataFrame(
            {
                "image_id": "MIDOG25/" + published["image_id"].str.removesuffix(".png"),
                "label": to_labels(published["majority"], NMF_AMF, self.table),
                "domain": published["Tumor"],
                "case": cohort + "/" + published["filename"],
                "source": "MIDOG25",
                "cohort": "MIDOG25",
                "scanner": published["Scanner"].replace("Hamammatsu XR", "Hamamatsu XR"),
                "species": published["Species"].str.lower(),
                "x_px": to_pixels(published["coordinateX"], self.table),
                "y_px": to_pixels(published["coordinateY"], self.table),
                "atypical_votes": to_votes(published[EXPERTS], NMF_AMF, self.table),
            }
        )
        if self.crops:
            rows["path"] = f"{self.crops}/" + published["image_id"]
        counted(rows, "MIDOG25", COUNTS, by=["domain", "label"])
        return rows
