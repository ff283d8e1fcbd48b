from mitoscope.training.classify.tables import (
    overview_rows,
    render_named,
    render_overview,
    render_rules,
    render_table_2,
)

SCORES = {"n_crops": 10, "n_atypical": 4, "roc_auc": 0.9, "balanced_accuracy": 0.8, "sensitivity": 0.7}
SCORES["specificity"] = 0.9
BOUNDS = dict.fromkeys(("roc_auc", "balanced_accuracy", "sensitivity", "specificity"), (0.5, 1.0))


def held_out(balanced_accuracy: float, n_networks: int = 5) -> dict[str, object]:
    return {
        "ensemble": SCORES,
        "single_networks": {
            "mean_roc_auc": 0.85,
            "std_roc_auc": 0.01,
            "mean_balanced_accuracy": 0.75,
            "std_balanced_accuracy": 0.02,
        },
        "n_networks": n_networks,
        "rules": {
            "one_half": {**SCORES, "balanced_accuracy": balanced_accuracy},
            "otsu_of_batch": {**SCORES, "intervals": BOUNDS},
            "best_on_these_labels": {**SCORES, "balanced_accuracy": 0.85},
        },
    }


RESULTS = {"out_of_fold": SCORES, "held_out": {"lung": held_out(0.75), "skin": held_out(0.65)}}


def test_a_study_has_a_row_out_of_fold_and_two_a_hold_out() -> None:
    scores = ["0.9000", "0.8000", "0.7000", "0.9000"]
    spread = ["0.8500 ± 0.0100", "0.7500 ± 0.0200", "", ""]
    assert list(overview_rows(RESULTS)) == [
        ["out of fold", "10 (4)", "one", *scores],
        ["held out: lung", "10 (4)", "all 5", *scores],
        ["held out: lung", "10 (4)", "one, mean of 5", *spread],
        ["held out: skin", "10 (4)", "all 5", *scores],
        ["held out: skin", "10 (4)", "one, mean of 5", *spread],
    ]
    one = overview_rows({"out_of_fold": SCORES, "held_out": {"lung": held_out(0.7, n_networks=1)}})
    assert [row[2] for row in one] == ["one", "one"]
    assert sum(line.startswith("| lite | ") for line in render_overview({"lite": RESULTS}).splitlines()) == 5


def test_table_2_stands_at_the_batch_s_own_threshold_with_intervals() -> None:
    last = render_table_2(RESULTS["held_out"]).splitlines()[-1]
    interval = "[0.500, 1.000]"
    assert last == f"| skin | 0.900 {interval} | 0.800 {interval} | 0.900 {interval} | 0.700 {interval} |"


def test_a_rule_s_loss_is_against_the_best_threshold() -> None:
    lines = render_rules(RESULTS["held_out"]).splitlines()
    assert "| `one_half` | 0.750 | 0.650 | 0.700 | 0.150 |" in lines
    assert "| `best_on_these_labels` | 0.850 | 0.850 | 0.850 | 0.000 |" in lines


def test_named_crops_stand_beside_the_others_and_a_dash_where_a_class_is_missing() -> None:
    found = {"n_named": 1200, "roc_auc_named": 0.8, "roc_auc_others": 0.9, "difference": 0.1, "interval": (-0.1, 0.3)}
    nothing = {"n_named": 0, **dict.fromkeys(("roc_auc_named", "roc_auc_others", "difference", "interval"))}
    lines = render_named({"lung": {"named": {"near_threshold": found, "unlike": nothing}}}).splitlines()
    assert lines[-2] == "| lung | near threshold | 1,200 | 0.800 | 0.900 | 0.100 [-0.100, 0.300] |"
    assert lines[-1] == "| lung | unlike | 0 | – | – | – |"
