"""Rules for every module: a docstring, a name that says something, nothing swallowed, a pure core. Sizes: `test_shape`."""

import ast
import re

import pytest

from tests.project.source import PACKAGES, PRODUCT, ROOT, functions, lines_of, name, written

PURE = ("domain", "sagas", "projections")
DRAWERS = {"utils", "util", "common", "base", "helpers", "helper", "manager", "misc"}
IMPURE = re.compile(
    r"\bdatetime\.(now|utcnow|today)\b|\buuid[1-7]?\b|\brandom\b|\btime\.\w|\bos\.|(?<!def )\bopen\(|\bprint\("
)

TESTS = written("tests")


def test_there_is_something_to_check():
    assert len(PRODUCT) > 40
    assert {file.relative_to(ROOT).parts[0] for file in PRODUCT} == set(PACKAGES)


@pytest.mark.parametrize("file", PRODUCT, ids=name)
class TestEveryModule:
    def test_says_what_it_is(self, file):
        assert ast.get_docstring(ast.parse(file.read_text()))

    def test_is_no_drawer(self, file):
        assert not DRAWERS & {*file.stem.split("_"), *file.relative_to(ROOT).parts}

    def test_leaves_no_note_to_self(self, file):
        assert not re.search(r"\b(TODO|FIXME|XXX|HACK)\b", file.read_text())

    def test_swallows_nothing(self, file):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ExceptHandler) and (node.type is None or ast.unparse(node.type) == "BaseException"):
                assert any(isinstance(inner, ast.Raise) and inner.exc is None for inner in ast.walk(node))


@pytest.mark.parametrize("file", [file for file in PRODUCT if file.relative_to(ROOT).parts[0] in PURE], ids=name)
def test_the_core_has_no_clock_no_chance_and_no_world(file):
    code = ast.unparse(_without_docstrings(ast.parse(file.read_text())))
    assert not IMPURE.findall(code)


@pytest.mark.parametrize("file", TESTS, ids=name)
def test_tests_mock_nothing_of_ours(file):
    imported = {
        alias.name
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in [*node.names, ast.alias(getattr(node, "module", "") or "")]
    }
    assert not {told for told in imported if told.startswith(("unittest.mock", "mock"))}


def test_half_of_all_functions_are_very_short():
    lengths = sorted(lines_of(function) for file in PRODUCT for function in functions(file))
    assert lengths[len(lengths) // 2] <= 12
    assert lengths[len(lengths) * 9 // 10] <= 35


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [
                told for told in body if not (isinstance(told, ast.Expr) and isinstance(told.value, ast.Constant))
            ] or [ast.Pass()]
    return tree
