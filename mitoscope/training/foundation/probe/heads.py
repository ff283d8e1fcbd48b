"""Classifiers of embeddings: logistic regression by L-BFGS, and nearest neighbours; both by scikit-learn."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from scipy.special import expit
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier

from mitoscope.errors import DataError
from mitoscope.settings import check_ranges, override

GRID = tuple(float(10 ** (power / 2)) for power in range(-10, 3))  # of C, as scikit-learn defines it
UNI, VALIDATION = "uni", "validation"
MOST_STEPS = 1000  # of L-BFGS, as UNI's

Split = tuple[np.ndarray, np.ndarray]  # rows to fit on, rows to score


@dataclass(frozen=True)
class ProbeSettings:
    """How a classifier is fitted to embeddings.

    Attributes:
        kind: ``"logistic"`` or ``"knn"``.
        c: Inverse strength of the penalty on the squared weights: ``"validation"`` takes the value of `GRID` with the
            best ROC AUC on the validation crops; ``"uni"`` follows Chen et al. (Nature Medicine 30, 2024), see
            `uni_c`; or a number, as scikit-learn defines C.
        standardise: Bring every feature of the training crops to mean 0 and standard deviation 1 first.
        neighbours: Of knn, as Chen et al.: of centred embeddings of length 1, each neighbour with one vote.
    """

    kind: str = "logistic"
    c: str = VALIDATION
    standardise: bool = True
    neighbours: int = 20

    def __post_init__(self) -> None:
        rules = {
            "kind": self.kind in ("logistic", "knn"),
            "c": self.c in (UNI, VALIDATION) or _number(self.c) > 0,
            "neighbours": self.neighbours >= 1,
        }
        check_ranges(self, rules, "the setting", "--set ")


PROBES: dict[str, ProbeSettings] = {
    "probe": ProbeSettings(),
    "probe-uni": ProbeSettings(c=UNI, standardise=False),
    "knn": ProbeSettings(kind="knn"),
}


# What can be set, by kind. The kind itself is chosen by the probe's name.
SETTINGS = {"logistic": ("c", "standardise"), "knn": ("neighbours",)}


def has_setting(name: str, setting: str) -> bool:
    """Whether a ``key=value`` changes a probe."""
    return setting.partition("=")[0] in SETTINGS[_find_probe(name).kind]


def configure_probe(name: str, settings: Sequence[str]) -> ProbeSettings:
    """A probe by name, with ``key=value`` changes.

    Raises:
        DataError: The name is unknown, the probe has no such setting, or a value is out of range.
    """
    return configure_probes([name], settings)[name]


def configure_probes(names: Sequence[str], settings: Sequence[str]) -> dict[str, ProbeSettings]:
    """Probes by name; a ``key=value`` changes those that have it.

    Raises:
        DataError: As `configure_probe`, or none of the probes has a setting.
    """
    for setting in settings:
        if not any(has_setting(name, setting) for name in names):
            raise DataError(
                f"--set {setting} changes nothing",
                got=", ".join(names),
                expected=list_settings(),
                remedy="remove it, or name another probe",
            )
    return {
        name: override(_find_probe(name), [setting for setting in settings if has_setting(name, setting)])
        for name in names
    }


def list_settings() -> str:
    """What can be set, and of which probes, in words."""
    having = {kind: ", ".join(name for name, probe in PROBES.items() if probe.kind == kind) for kind in SETTINGS}
    return "; ".join(f"{' or '.join(SETTINGS[kind])} of {probes}" for kind, probes in having.items())


def _find_probe(name: str) -> ProbeSettings:
    """A probe as it is fitted by default."""
    if name not in PROBES:
        raise DataError(f"the probe {name} is unknown", got=name, expected=", ".join(PROBES), remedy="correct the name")
    return PROBES[name]


class Head(Protocol):
    """A fitted classifier of embeddings."""

    def predict(self, embeddings: np.ndarray) -> np.ndarray:
        """Probability of the positive class: float (N, V, D) → float64 (N,) in [0, 1], the mean over the views."""


@dataclass(frozen=True)
class LinearHead:
    """Logistic regression as one layer, standardisation included.

    Attributes:
        weight: float64 (D,).
        bias: Added.
        c: As scikit-learn defines it.
    """

    weight: np.ndarray
    bias: float
    c: float

    def predict(self, embeddings: np.ndarray) -> np.ndarray:
        """See `Head`."""
        return np.asarray(expit(embeddings @ self.weight + self.bias).mean(axis=1))


@dataclass(frozen=True)
class NeighbourHead:
    """Nearest neighbours.

    Attributes:
        mean: float (D,), of the training crops.
        neighbours: Fitted.
    """

    mean: np.ndarray
    neighbours: Any

    def predict(self, embeddings: np.ndarray) -> np.ndarray:
        """See `Head`."""
        shares = self.neighbours.predict_proba(_directions(embeddings, self.mean))[:, 1]
        return np.asarray(shares.reshape(embeddings.shape[:2]).mean(axis=1))


def fit_head(
    settings: ProbeSettings, embeddings: np.ndarray, positive: np.ndarray, rows: np.ndarray, splits: Sequence[Split]
) -> Head:
    """Fit one classifier.

    Args:
        settings: Which, and how.
        embeddings: float (N, V, D) of all crops.
        positive: bool (N,), the labels of all crops.
        rows: int64 (n,), the crops to fit on.
        splits: Where C is chosen by validation: crops to fit on and crops to score, no case in both.

    Raises:
        DataError: The crops are of one class.
    """
    check_classes(positive[rows], "the crops that the probe is fitted to")
    if settings.kind == "knn":
        return _fit_neighbours(settings, embeddings[rows], positive[rows])
    if settings.c == VALIDATION:
        c = choose_c(settings, embeddings, positive, splits)
    elif settings.c == UNI:
        c = uni_c(embeddings.shape[2], len(rows))
    else:
        c = float(settings.c)
    return fit_logistic(embeddings[rows], positive[rows], [c], standardise=settings.standardise)[0]


def uni_c(dimension: int, n_crops: int) -> float:
    """UNI's strength of the penalty, as scikit-learn's C for two classes.

    UNI minimises the *mean* cross-entropy of a softmax plus λ / 2 times the squared weights, λ = 100 / (dimension ×
    classes). scikit-learn's C weighs the *sum* over the crops; and its two classes share one vector of weights, which
    is twice that of each of the softmax's: C = 2 / (λ × crops). See docs/adr/0022.
    """
    penalty = 100 / (dimension * 2)
    return 2 / (penalty * n_crops)


def choose_c(settings: ProbeSettings, embeddings: np.ndarray, positive: np.ndarray, splits: Sequence[Split]) -> float:
    """The value of `GRID` with the best mean ROC AUC over the splits; of equal ones the smallest."""
    scores = np.zeros(len(GRID))
    for fitted, scored in splits:
        heads = fit_logistic(embeddings[fitted], positive[fitted], GRID, standardise=settings.standardise)
        scores += [roc_auc_score(positive[scored], head.predict(embeddings[scored])) for head in heads]
    return GRID[int(np.argmax(scores))]


def fit_logistic(
    embeddings: np.ndarray, positive: np.ndarray, grid: Sequence[float], *, standardise: bool
) -> list[LinearHead]:
    """Logistic regressions of the same crops, one for each C, from small to large; each starts from the one before.

    Args:
        embeddings: float (N, V, D). The views of a crop weigh 1 / V each.
        positive: bool (N,), both classes.
        grid: Of C, rising.
        standardise: See `ProbeSettings`.
    """
    n_crops, n_views, dimension = embeddings.shape
    features = embeddings.reshape(-1, dimension).astype(np.float64)
    mean, scale = np.zeros(dimension), np.ones(dimension)
    if standardise:
        mean, scale = features.mean(axis=0), features.std(axis=0)
        scale[scale < 1e-12] = 1.0  # a feature that never changes
        features = (features - mean) / scale
    labels, weights = np.repeat(positive, n_views), np.full(n_crops * n_views, 1 / n_views)
    model = LogisticRegression(solver="lbfgs", max_iter=MOST_STEPS, warm_start=True)
    heads = []
    for c in grid:
        model.set_params(C=c)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            model.fit(features, labels, sample_weight=weights)
        if any(issubclass(each.category, ConvergenceWarning) for each in caught):
            print(f"warning   L-BFGS did not converge within {MOST_STEPS} steps for C = {c:.3g}", flush=True)
        weight = model.coef_[0] / scale
        heads.append(LinearHead(weight, float(model.intercept_[0] - weight @ mean), c))
    return heads


def check_classes(positive: np.ndarray, what: str) -> None:
    """Refuse crops of one class.

    Raises:
        DataError: They are.
    """
    if len(np.unique(positive)) < 2:
        raise DataError(
            f"{what} are of one class",
            got=f"{len(positive)} crops, {int(positive.sum())} of them positive",
            expected="crops of both classes",
            remedy="use more crops",
        )


def _fit_neighbours(settings: ProbeSettings, embeddings: np.ndarray, positive: np.ndarray) -> NeighbourHead:
    """See `ProbeSettings`; fewer neighbours where there are fewer crops. Each view of a crop is a neighbour."""
    mean = embeddings.mean(axis=(0, 1))
    count = min(settings.neighbours, len(embeddings)) * embeddings.shape[1]
    labels = np.repeat(positive, embeddings.shape[1])
    return NeighbourHead(mean, KNeighborsClassifier(n_neighbors=count).fit(_directions(embeddings, mean), labels))


def _directions(embeddings: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """float (N, V, D) → float (N × V, D): centred, and of length 1."""
    centred = (embeddings - mean).reshape(-1, embeddings.shape[2])
    return np.asarray(centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12))


def _number(text: str) -> float:
    """The number that a text spells; 0 if it spells none."""
    try:
        return float(text)
    except ValueError:
        return 0.0
