from mitoscope.scoring.summary import render_summary

INTERVALS = {"n_cases": 30, "n_without_case": 0, "n_draws": 2000, "seed": 1}
SHARES = ("roc_auc", "balanced_accuracy", "sensitivity", "specificity")
BOTH = {
    "n_crops": 1200,
    "n_atypical": 300,
    **dict.fromkeys(SHARES, 0.875),
    "accuracy": 0.8,
    "average_precision": 0.7,
    "intervals": {**INTERVALS, **{key: [0.8, 0.9] for key in SHARES}},
    "calibration": {"ece": 0.05, "brier": 0.1, "brier_of_share": 0.1875},
    "sweep": {"balanced_accuracy": 0.8, "best_balanced_accuracy": 0.85, "best_threshold": 0.3, "price_points": 5.0},
}
ONE_CLASS = {**dict.fromkeys(BOTH), "n_crops": 8, "n_atypical": 8, "accuracy": 0.75, "sensitivity": 0.75}
RESULTS = {
    "inputs": {"predictions": {"name": "predictions.csv"}, "labels": {"name": "labels.csv"}},
    "threshold": {"value": 0.4, "origin": "predictions.csv.json"},
    "pooled": BOTH,
    "domains": {"lung": {**BOTH, "intervals": None}, "skin": ONE_CLASS},
    "members": {"member_0": {"roc_auc": 0.9}},
    "n_without_domain": 3,
    "not_drawn": ["bone"],
}


def test_each_group_has_its_line_and_each_gap_its_note() -> None:
    lines = render_summary(RESULTS).splitlines()
    cell = "0.875 [0.800, 0.900]"
    assert lines[0] == "# predictions.csv against labels.csv"
    assert f"| all crops | 1,200 (300) | {' | '.join([cell] * 4)} | 0.800 |" in lines
    assert f"| lung | 1,200 (300) | {' | '.join(['0.875'] * 4)} | 0.800 |" in lines
    assert "| skin | 8 (8) | – | – | 0.750 | – | 0.750 |" in lines
    assert "| all crops | 0.800 | 0.850 | 0.3000 | 5.0 |" in lines
    assert "| lung | 0.050 | 0.100 | 0.188 | 0.700 |" in lines
    assert "| member 0 | 0.900 | – | – | – |" in lines
    assert "[95 % interval]: bootstrap, 2,000 draws, seed 1; whole cases are drawn (30 cases)." in lines
    notes = lines[lines.index("## Notes") + 2 :]
    assert [note.partition(":")[0] for note in notes[:2]] == ["- lung", "- skin"]
    assert notes[2:] == [
        "- 3 crops of unknown domain are only in the row of all crops.",
        "- Not in the pictures, for lack of space: bone.",
    ]


def test_disagreement_is_one_line_and_has_no_cost() -> None:
    text = render_summary({**RESULTS, "threshold": None})
    assert sum("Classes and probabilities disagree" in line for line in text.splitlines()) == 1
    assert "## Cost" not in text


def test_crops_of_unknown_case_are_noted() -> None:
    for n_cases, words in ((0, "3 crops of unknown case one by one"), (30, "30 cases are drawn whole, and 3 crops")):
        some = {**BOTH, "intervals": {**BOTH["intervals"], "n_cases": n_cases, "n_without_case": 3}}
        assert words in render_summary({**RESULTS, "pooled": some})
    assert "so there are no intervals" in render_summary({**RESULTS, "pooled": {**BOTH, "intervals": None}})
