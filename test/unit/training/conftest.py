"""The published tables' layouts with the published counts, and nothing of the published tables in them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mitoscope.training.data.sources.midog25 import CANCERS

BREAST = "human breast cancer"


def places(n: int) -> pd.DataFrame:
    """Slides of ten figures each, no place twice."""
    number = np.arange(n)
    return pd.DataFrame({"slide": [f"{k:03}.tiff" for k in number // 10], "x": 60 + 7 * number, "y": 5 * number})


@pytest.fixture(scope="session")
def midog25_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MIDOG25.csv: 11,937 rows; the first breast rows are the first of `ami_br_csv`, class by class."""
    blocks = []
    for cancer, (n_atypical, n_normal) in CANCERS.items():
        label = np.repeat(["AMF", "NMF"], [n_atypical, n_normal])
        block = places(len(label)).rename(columns={"slide": "filename", "x": "coordinateX", "y": "coordinateY"})
        block[["expert1", "expert2", "majority"]] = np.stack([label] * 3, axis=1)
        if cancer != BREAST:
            block["filename"] = cancer.replace(" ", "-") + block["filename"]
        blocks.append(block.assign(Tumor=cancer, Species=cancer.split()[0].capitalize()))
    table = pd.concat(blocks, ignore_index=True).assign(expert3="", Origin="somewhere")
    table["image_id"] = [f"{row + 1}.png" for row in range(len(table))]
    table["Scanner"] = np.where(table["Tumor"] == BREAST, "Hamammatsu XR", "3D Histech")
    path = tmp_path_factory.mktemp("midog25") / "MIDOG25.csv"
    table.to_csv(path, index=False)
    return path


@pytest.fixture(scope="session")
def ami_br_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """AMI-BR.csv: 3,720 rows, 1,721 of them MIDOG21's."""
    blocks = []
    for dataset, n_atypical, n_normal in (("MIDOG21", 404, 1317), ("TUPAC16", 428, 1571)):
        atypical = np.repeat([True, False], [n_atypical, n_normal])
        block = places(len(atypical)).assign(dataset=dataset, uid=np.arange(len(atypical)), majority_atypical=atypical)
        block["expert1_atypical"] = block["expert2_atypical"] = atypical
        blocks.append(block.assign(expert3_atypical=False))
    table = pd.concat(blocks, ignore_index=True)
    table["expert1_label"], table["expert2_label"] = "AMF multipolar", "NMF metaphase"
    path = tmp_path_factory.mktemp("ami_br") / "AMI-BR.csv"
    table.to_csv(path)
    return path
