"""A study's figures as Markdown tables: the paper's Table 2, the price of each threshold rule, and a line a study."""

from typing import Any

Results = dict[str, Any]
BEST = "best_on_these_labels"


def overview_rows(results: Results) -> list[str]:
    """One study: out of fold by one network, and each hold-out by one and by all, at the fixed threshold."""
    f = results["out_of_fold"]
    rows = [f"out of fold | {f['n_crops']} ({f['n_atypical']}) | one | {_scores(f)} |"]
    for name, held_out in results["held_out"].items():
        one, f, count = held_out["single_networks"], held_out["ensemble"], held_out["n_networks"]
        what = f"held out: {name} | {f['n_crops']} ({f['n_atypical']})"
        if count == 1:
            rows.append(f"{what} | one | {_scores(f)} |")
            continue
        rows.append(f"{what} | all {count} | {_scores(f)} |")
        rows.append(
            f"{what} | one, mean of {count} | {one['mean_roc_auc']:.4f} ± {one['std_roc_auc']:.4f} "
            f"| {one['mean_balanced_accuracy']:.4f} ± {one['std_balanced_accuracy']:.4f} | | |"
        )
    return rows


def _scores(f: dict[str, float]) -> str:
    """ROC AUC, balanced accuracy, sensitivity and specificity."""
    return " | ".join(f"{f[key]:.4f}" for key in ("roc_auc", "balanced_accuracy", "sensitivity", "specificity"))


def render_overview(studies: dict[str, Results]) -> str:
    """A line for each set of crops of each study; the studies by name, as `summarise` gives them."""
    lines = [
        "At each study's fixed threshold.",
        "",
        "| study | crops | n (atypical) | networks | ROC AUC | balanced accuracy | sensitivity | specificity |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, results in studies.items():
        lines += [f"| {name} | {row}" for row in overview_rows(results)]
    return "\n".join(lines) + "\n"


def render_table_2(groups: dict[str, Results]) -> str:
    """The paper's Table 2 with intervals, of hold-outs by name."""
    lines = [
        "At Otsu's threshold of the very crops that are scored, as in the paper's Table 2; [95 % interval, cases drawn "
        "with replacement, the threshold refitted in each draw].",
        "",
        "| crops | ROC AUC | balanced accuracy | NMF accuracy | AMF accuracy |",
        "|---|---|---|---|---|",
    ]
    columns = ("roc_auc", "balanced_accuracy", "specificity", "sensitivity")
    for name, held_out in groups.items():
        f = held_out["rules"]["otsu_of_batch"]
        intervals = f["intervals"]
        cells = [f"{f[key]:.3f} [{intervals[key][0]:.3f}, {intervals[key][1]:.3f}]" for key in columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def render_rules(groups: dict[str, Results]) -> str:
    """Which rule loses least against the best threshold, which only the labels could tell."""
    rules = list(next(iter(groups.values()))["rules"])
    lines = [
        "Balanced accuracy by the rule that places the threshold. All but the last two were fitted without these "
        "crops, and can judge a single one; the last is the best that the labels themselves allow.",
        "",
        f"| rule | {' | '.join(groups)} | mean | mean loss |",
        "|---" * (len(groups) + 3) + "|",
    ]
    for rule in rules:
        got = [held_out["rules"][rule]["balanced_accuracy"] for held_out in groups.values()]
        best = [held_out["rules"][BEST]["balanced_accuracy"] for held_out in groups.values()]
        mean, loss = sum(got) / len(got), (sum(best) - sum(got)) / len(got)
        lines.append(f"| `{rule}` | {' | '.join(f'{x:.3f}' for x in got)} | {mean:.3f} | {loss:.3f} |")
    return "\n".join(lines) + "\n"
