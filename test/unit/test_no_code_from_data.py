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
ALLOWED = {"torch.load", "np.load", "weights_only=True", "allow_pickle=False"}  # in training, together
LOADERS = {"torch.load", "torch.jit.load", "torch.hub.load", "np.load", "numpy.load", "pd.read_pickle", "pd.eval"}


def dangers(source: str) -> list[str]:
    """The names in a source that may run code from data."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.partition(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom):
            found += [node.module] if (node.module or "").partition(".")[0] in MODULES else []
            found += [alias.name for alias in node.names if f"{node.module}.{alias.name}" in LOADERS | {"numpy.load"}]
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            found += [name] if name in CALLS | LOADERS or name.endswith(".load_from_checkpoint") else []
        elif isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "weights_only"):
            found.append(f"{node.arg}={ast.unparse(node.value)}")
    return found


def careless(source: str) -> list[str]:
    """The dangers that training has no use for, and every load that may take more than weights or arrays."""
    found = [name for name in dangers(source) if name not in ALLOWED]
    for call in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)):
        said = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        name = ast.unparse(call.func)
        if (name == "torch.load" or said.keys() & {"ckpt_path"}) and said.get("weights_only") != "True":
            found.append(name)
        if name == "np.load" and said.get("allow_pickle") != "False":
            found.append(name)
    return found


@pytest.mark.parametrize("path", SERVED, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_unpickled_or_evaluated_on_the_way_to_a_result(path):
    assert dangers(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", TRAINED, ids=lambda path: str(path.relative_to(ROOT)))
def test_training_loads_weights_alone_and_no_pickled_arrays(path):
    assert careless(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source", ["import pickle", "from yaml import load", "eval(x)", "torch.load(f)", "np.load(f, allow_pickle=True)"]
)
def test_a_danger_is_seen(source):
    assert dangers(source)


@pytest.mark.parametrize(
    "source",
    [
        *("import dill", "from pickle import load as l", "pd.read_pickle(f)", "torch.load(f)", "np.load(f)", "eval(x)"),
        *("torch.load(f, weights_only=flag)", "np.load(f, allow_pickle=flag)", "trainer.fit(m, ckpt_path=c)"),
        *("from torch import load as l", "M.load_from_checkpoint(p)"),
    ],
)
def test_a_careless_load_is_seen(source):
    assert careless(source)
