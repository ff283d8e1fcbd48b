"""No code is run from data: nothing unpickles or evaluates data from outside."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TRAINED = sorted((ROOT / "mitoscope" / "training").rglob("*.py"))
SERVED = [ROOT / "inference.py", ROOT / "serve.py", *sorted((ROOT / "model").rglob("*.py"))]
SERVED += [path for path in sorted((ROOT / "mitoscope").rglob("*.py")) if path not in TRAINED]
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
    """The dangers that training does not need, and every load that may read more than weights or arrays."""
    found = [name for name in dangers(source) if name not in ALLOWED]
    for call in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)):
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        name = ast.unparse(call.func)
        if (name == "torch.load" or given.keys() & {"ckpt_path"}) and given.get("weights_only") != "True":
            found.append(name)
        if name == "np.load" and given.get("allow_pickle") != "False":
            found.append(name)
    return found


def test_nothing_is_unpickled_or_evaluated_on_the_way_to_a_result():
    assert len(SERVED) > 40
    found = {str(path.relative_to(ROOT)): dangers(path.read_text(encoding="utf-8")) for path in SERVED}
    assert {path: names for path, names in found.items() if names} == {}


def test_training_loads_only_weights_and_plain_arrays():
    assert len(TRAINED) > 20
    found = {str(path.relative_to(ROOT)): careless(path.read_text(encoding="utf-8")) for path in TRAINED}
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "source", ["import pickle", "from yaml import load", "eval(x)", "torch.load(f)", "np.load(f, allow_pickle=True)"]
)
def test_a_danger_is_found(source):
    assert dangers(source)


@pytest.mark.parametrize(
    "source",
    [
        *("import dill", "from pickle import load as l", "pd.read_pickle(f)", "torch.load(f)", "np.load(f)", "eval(x)"),
        *("torch.load(f, weights_only=flag)", "np.load(f, allow_pickle=flag)", "trainer.fit(m, ckpt_path=c)"),
        *("from torch import load as l", "M.load_from_checkpoint(p)"),
    ],
)
def test_a_careless_load_is_found(source):
    assert careless(source)
