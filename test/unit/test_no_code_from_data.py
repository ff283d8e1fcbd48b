"""No code is run from data: nothing that unpickles or evaluates stands where data from outside is read."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SERVED = [ROOT / "inference.py", ROOT / "serve.py", *sorted((ROOT / "model").rglob("*.py"))]
SERVED += sorted((ROOT / "scoring").rglob("*.py"))
TRAINED = sorted((ROOT / "train").rglob("*.py"))
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib", "yaml", "runpy", "code"}
CALLS = {"eval", "exec", "compile", "__import__"}
LOADERS = {"torch.load", "torch.jit.load", "torch.hub.load", "np.load", "numpy.load", "pd.read_pickle", "pd.eval"}


def dangers(source: str) -> list[str]:
    """The names in a source that may run code from data."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.partition(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom):
            found += [node.module] if (node.module or "").partition(".")[0] in MODULES else []
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            found += [name] if name in CALLS | LOADERS else []
        elif isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "weights_only"):
            found.append(f"{node.arg}={ast.unparse(node.value)}")
    return found


def loads(source: str) -> list[dict[str, str]]:
    """The keywords of each call of torch.load."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [
        {keyword.arg or "**": ast.unparse(keyword.value) for keyword in call.keywords}
        for call in calls
        if ast.unparse(call.func) in ("torch.load", "load")
    ]


@pytest.mark.parametrize("path", SERVED, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_unpickled_or_evaluated_on_the_way_to_a_result(path):
    assert dangers(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", TRAINED, ids=lambda path: str(path.relative_to(ROOT)))
def test_training_loads_weights_alone_and_no_pickled_arrays(path):
    source = path.read_text(encoding="utf-8")
    assert all(keywords.get("weights_only") == "True" for keywords in loads(source))
    assert {"allow_pickle=True", "weights_only=False", "eval", "exec", "pickle", "yaml"}.isdisjoint(dangers(source))


@pytest.mark.parametrize(
    "source", ["import pickle", "from yaml import load", "eval(x)", "torch.load(f)", "np.load(f, allow_pickle=True)"]
)
def test_a_danger_is_seen(source):
    assert dangers(source)
