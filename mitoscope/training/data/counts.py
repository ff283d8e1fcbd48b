"""What a table holds, as the paper's Table 1 (Qi et al. 2025, arXiv 2509.02589) shows it."""

import pandas as pd

PAPER_TOTAL = 13938
# The paper's two sources, and the likely reason why they hold two crops less than it counts.
PAPER_SOURCES = {"AMi-Br", "MIDOG25"}
TWO_MORE = (
    "The paper counts 13,938, with 2,890 normal figures of human breast cancer where AMi-Br has 2,888: the other two "
    "are most likely two figures of slide 085.tiff, at (4170, 488) and (3048, 4569), which an earlier version of "
    "MIDOG25.csv lists twice."
)


def format_counts(table: pd.DataFrame) -> str:
    """The paper's Table 1: samples, AMF (atypical) and NMF (normal) of each cancer type, and all.

    Args:
        table: One row a crop.

    Returns:
        Lines of text, the last of them the data sets; for the paper's two sources also a note on its two other crops.
    """
    counts = table.fillna({"domain": "unknown"}).groupby(["domain", "label"]).size().unstack("label", fill_value=0)
    counts = counts.reindex(columns=["atypical", "normal"], fill_value=0)
    counts.loc["total"] = counts.sum()
    width = max(len(str(name)) for name in counts.index)
    lines = [f"{'cancer type':{width}}  samples    AMF    NMF  AMF %"]
    for name, (amf, nmf) in zip(counts.index, counts.to_numpy(), strict=True):
        lines.append(f"{name:{width}}  {amf + nmf:7}  {amf:5}  {nmf:5}  {100 * amf / (amf + nmf):5.1f}")
    lines.append("from " + ", ".join(f"{source} {n}" for source, n in table["source"].value_counts(sort=False).items()))
    if set(table["source"]) == PAPER_SOURCES and len(table) == PAPER_TOTAL - 2:
        lines.append(TWO_MORE)
    return "\n".join(lines)
