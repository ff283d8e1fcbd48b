"""A study's metrics as Markdown tables: the paper's Table 2, the price of each threshold rule, and an overview."""

from collections.abc import Iterator, Mapping
from typing import Any

from mitoscope.markdown import render_share, render_table

Results = dict[str, Any]
BEST = "best_on_these_labels"
COLUMNS = ("crops", "n (atypical)", "networks", "ROC AUC", "balanced accuracy", "sensitivity", "specificity")


def overview_rows(results: Results) -> Iterator[list[str]]:
    """One study: out of fold by one network, and each hold-out by one and by all, at the fixed threshold."""
    yield ["out of fold", _count(results["out_of_fold"]), "one", *_scores(results["out_of_fold"])]
    for name, held_out in results["held_out"].items():
        one, metrics, count = held_out["single_networks"], held_out["ensemble"], held_out["n_networks"]
        what = [f"held out: {name}", _count(metrics)]
        yield [*what, "one" if count == 1 else f"all {count}", *_scores(metrics)]
        if count > 1:
            spread = (f"{one[f'mean_{key}']:.4f} ± {one[f'std_{key}']:.4f}" for key in ("roc_auc", "balanced_accuracy"))
            yield [*what, f"one, mean of {count}", *spread, "", ""]


def _count(metrics: Mapping[str, Any]) -> str:
    """All crops, and the atypical ones among them."""
    return f"{metrics['n_crops']:,} ({metrics['n_atypical']:,})"


def _scores(metrics: Mapping[str, Any]) -> list[str]:
    """ROC AUC, balanced accuracy, sensitivity and specificity."""
    return [f"{metrics[key]:.4f}" for key in ("roc_auc", "balanced_accuracy", "sensitivity", "specificity")]


def render_overview(studies: dict[str, Results]) -> str:
    """A row for each set of crops of each study; the studies by name, as `summarise` returns them."""
    rows = [[name, *row] for name, results in studies.items() for row in overview_rows(results)]
    return f"At each study's fixed threshold.\n\n{render_table(('study', *COLUMNS), rows)}\n"


def render_table_2(groups: dict[str, Results]) -> str:
    """The paper's Table 2 with intervals, of hold-outs by name."""
    rows = []
    for name, held_out in groups.items():
        metrics = held_out["rules"]["otsu_of_batch"]
        keys = ("roc_auc", "balanced_accuracy", "specificity", "sensitivity")
        rows.append([name, *(render_share(metrics[key], metrics["intervals"][key]) for key in keys)])
    table = render_table(("crops", "ROC AUC", "balanced accuracy", "NMF accuracy", "AMF accuracy"), rows)
    return (
        "At Otsu's threshold of the crops that are scored, as in the paper's Table 2; [95 % interval, cases drawn "
        f"with replacement, the threshold refitted in each draw].\n\n{table}\n"
    )


def render_rules(groups: dict[str, Results]) -> str:
    """How much each rule loses against the best threshold, which is found with the labels alone."""
    rows = []
    for rule in next(iter(groups.values()))["rules"]:
        got = [held_out["rules"][rule]["balanced_accuracy"] for held_out in groups.values()]
        best = [held_out["rules"][BEST]["balanced_accuracy"] for held_out in groups.values()]
        mean = sum(got) / len(got)
        rows.append([f"`{rule}`", *map(render_share, [*got, mean, sum(best) / len(best) - mean])])
    return (
        "Balanced accuracy by the rule that places the threshold. All rules but the last two were fitted without these "
        "crops, so that they work for a single crop. The last is the best that is possible with these labels.\n\n"
        f"{render_table(('rule', *groups, 'mean', 'mean loss'), rows)}\n"
    )


def render_named(groups: dict[str, Results]) -> str:
    """Whether the networks rank those crops worse that are unlike the training crops; of hold-outs by name."""
    rows = []
    for name, held_out in groups.items():
        for hint, found in held_out["named"].items():
            aucs = (render_share(found[f"roc_auc_{side}"]) for side in ("named", "others"))
            difference = render_share(found["difference"], found["interval"])
            rows.append([name, hint.replace("_", " "), f"{found['n_named']:,}", *aucs, difference])
    return (
        "ROC AUC of the crops whose stain or sharpness is unlike the training crops, and of the others; then the same "
        "for as many crops whose probability is nearest to the threshold, which is known without a hint.\n\n"
        f"{render_table(('crops', 'named', 'n', 'ROC AUC', 'of the others', 'difference'), rows)}\n"
    )
