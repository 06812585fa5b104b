"""What an installation needs and brings stays the same wherever it is written."""

import ast
import re
import sys
import tomllib
from importlib import metadata

from conftest import ROOT
from packaging.markers import Marker
from packaging.requirements import Requirement

import emotion_cnn

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
EXTRAS_OF_FIRST_COMMAND = ("tensorflow", "parquet", "predict", "serve")


def requirements(name: str) -> list[str]:
    lines = (ROOT / name).read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def package_name(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def test_requirements_are_what_the_first_command_needs():
    needed = [each for extra in EXTRAS_OF_FIRST_COMMAND for each in EXTRAS[extra]]
    assert requirements("requirements.txt") == PROJECT["dependencies"] + needed


def test_requirements_for_development_add_other_extras_and_the_tools():
    first, *others = requirements("requirements-dev.txt")
    assert first == "-r requirements.txt"
    there = requirements("requirements.txt")
    export = [each for each in EXTRAS["export"] if each not in there]
    assert others == EXTRAS["jax"] + EXTRAS["faiss"] + export + EXTRAS["dev"]


def test_the_lock_has_all_requirements_in_versions_that_fit():
    locked = {}
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        if match := re.match(r"([\w.-]+)==(\S+)(?: ; (.+?))? \\$", line):
            name, version, marker = match.groups()
            if marker is None or Marker(marker).evaluate():
                locked[package_name(name)] = version
    for line in requirements("requirements.txt") + requirements("requirements-dev.txt"):
        if not line.startswith("-r"):
            requirement = Requirement(line)
            version = locked[package_name(requirement.name)]
            assert requirement.specifier.contains(version), line


def imported_packages() -> set[str]:
    """The top-level names of all third-party imports below emotion_cnn/."""
    names = set()
    for path in (ROOT / "emotion_cnn").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.split(".")[0])
    return names - sys.stdlib_module_names - {"emotion_cnn"}


def test_what_is_imported_is_declared():
    distributions = metadata.packages_distributions()
    extras = [each for name in EXTRAS if name != "dev" for each in EXTRAS[name]]
    # Keras requires these two, and reads and writes its own files with them.
    from_keras = {"absl-py", "h5py"}
    assert from_keras <= {package_name(each) for each in metadata.requires("keras")}
    declared = {package_name(each) for each in PROJECT["dependencies"] + extras}
    imported = {
        # An extra that is not installed has the name of its package.
        package_name(distribution)
        for name in imported_packages()
        for distribution in distributions.get(name, [name])
    }
    assert imported <= declared | from_keras


def test_changelog_has_this_version():
    headings = re.findall(
        r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE
    )
    assert headings[:2] == ["Unreleased", emotion_cnn.__version__]
