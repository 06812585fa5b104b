"""Sub-packages import only those below them; only commands print."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "emotion_cnn"
LAYERS = ("data", "models", "inference", "evaluation", "training", "commands")
"""From the bottom to the top; below them lie the modules beside the sub-packages."""
LEAVES = {
    "importing": {"data"},
    "audit": {"data"},
    "exporting": {"data", "models", "inference", "evaluation"},
    "serving": {"data", "inference"},
}
"""Those that only commands import, and what they import."""
MODULES = sorted(PACKAGE.rglob("*.py"))


def imported(path: Path) -> set[str]:
    """The sub-packages that a module imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [node.module] if isinstance(node, ast.ImportFrom) else []
        names += (
            [each.name for each in node.names] if isinstance(node, ast.Import) else []
        )
        for name in names:
            parts = str(name).split(".")
            if parts[0] == "emotion_cnn" and len(parts) > 1:
                found.add(parts[1])
    return found & {*LAYERS, *LEAVES}


@pytest.mark.parametrize("owner", [*LAYERS, *LEAVES])
def test_a_sub_package_imports_only_those_below_it(owner):
    if owner == "commands":
        allowed = {*LAYERS, *LEAVES}
    elif owner in LEAVES:
        allowed = {owner} | LEAVES[owner]
    else:
        allowed = set(LAYERS[: LAYERS.index(owner) + 1])
    modules = [path for path in MODULES if path.parent.is_relative_to(PACKAGE / owner)]
    assert modules
    for path in modules:
        assert imported(path) <= allowed, path


def test_what_lies_beside_the_sub_packages_imports_none_of_them():
    for path in PACKAGE.glob("*.py"):
        if path.name not in ("__init__.py", "__main__.py", "cli.py"):
            assert imported(path) == set(), path


def test_only_the_command_line_prints():
    for path in MODULES:
        calls = [
            node.func.id
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        ]
        if path.name != "cli.py" and path.parent.name != "commands":
            assert "print" not in calls, path


def test_data_are_read_without_keras():
    """So `prepare` and `audit` start at once, and need no backend."""
    for owner in ("data", "importing", "audit"):
        for path in (PACKAGE / owner).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            assert "import keras" not in text or path.name == "batches.py", path
