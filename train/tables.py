"""A study's figures as Markdown tables: the paper's Table 2, the price of each threshold rule, and a line a study."""

from typing import Any

Results = dict[str, Any]
BEST = "best_on_these_labels"


def render_tables(studies: dict[str, Results]) -> str:
    """All tables of one or more studies, by name, as `train.evaluate.summarise` gives them."""
    groups = held_out_groups(studies)
    parts = [_overview(studies)]
    if groups:
        parts += [_table_2(groups), _rules(groups)]
    return "\n".join(parts)


def held_out_groups(studies: dict[str, Results]) -> dict[str, Results]:
    """Every hold-out of every study under a name of its own."""
    groups = {}
    for study, results in studies.items():
        for name, held_out in results["held_out"].items():
            own = name.rpartition("=")[2] == study  # of a leave-one-out run
            groups[study if own else f"{study}: {name}" if len(studies) > 1 else name] = held_out
    return groups


def overview_rows(results: Results) -> list[str]:
    """One study: out of fold by one network, and each hold-out by one and by all, at the fixed threshold."""
    f = results["out_of_fold"]
    rows = [f"out of fold | {f['n_crops']} ({f['n_atypical']}) | one | {_scores(f)} |"]
    for name, held_out in results["held_out"].items():
        one, f, count = held_out["single_networks"], held_out["ensemble"], held_out["n_networks"]
        n = f"{f['n_crops']} ({f['n_atypical']})"
        if count > 1:
            rows.append(f"held out: {name} | {n} | all {count} | {_scores(f)} |")
        rows.append(
            f"held out: {name} | {n} | one, mean of {count} "
            f"| {one['mean_roc_auc']:.4f} ± {one['std_roc_auc']:.4f} | {one['mean_balanced_accuracy']:.4f} | | |"
        )
    return rows


def _scores(f: dict[str, float]) -> str:
    """ROC AUC, balanced accuracy, sensitivity and specificity."""
    return " | ".join(f"{f[key]:.4f}" for key in ("roc_auc", "balanced_accuracy", "sensitivity", "specificity"))


def _overview(studies: dict[str, Results]) -> str:
    """A line for each set of crops of each study."""
    lines = [
        "At each study's fixed threshold, fitted on its out-of-fold predictions.",
        "",
        "| study | crops | n (atypical) | networks | ROC AUC | balanced accuracy | sensitivity | specificity |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, results in studies.items():
        lines += [f"| {name} | {row}" for row in overview_rows(results)]
    return "\n".join(lines) + "\n"


def _table_2(groups: dict[str, Results]) -> str:
    """The paper's Table 2 with intervals."""
    lines = [
        "At Otsu's threshold of the very crops that are scored, as in the paper's Table 2; [95 % interval, cases drawn "
        "with replacement, the threshold refitted in each draw].",
        "",
        "| crops | ROC AUC | balanced accuracy | NMF accuracy | AMF accuracy |",
        "|---|---|---|---|---|",
    ]
    columns = ("roc_auc", "balanced_accuracy", "specificity", "sensitivity")
    for name, held_out in groups.items():
        f, intervals = held_out["rules"]["otsu_of_batch"], held_out["otsu_of_batch_intervals"]
        cells = [f"{f[key]:.3f} [{intervals[key][0]:.3f}, {intervals[key][1]:.3f}]" for key in columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _rules(groups: dict[str, Results]) -> str:
    """Which rule loses least against the best threshold, which only the labels could tell."""
    rules = list(next(iter(groups.values()))["rules"])
    lines = [
        "Balanced accuracy by the rule that places the threshold. All but `otsu_of_batch` were fitted without these "
        "crops, and can judge a single one.",
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
