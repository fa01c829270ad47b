"""Rules for every module: a docstring, a name that says something, nothing swallowed, a pure core. Sizes: `test_shape`."""

import ast
import re

from tests.project.source import PACKAGES, PRODUCT, ROOT, functions, lines_of, name, tree, written

PURE = ("domain", "sagas", "projections")
DRAWERS = {"utils", "util", "common", "base", "helpers", "helper", "manager", "misc"}
IMPURE = re.compile(
    r"\bdatetime\.(now|utcnow|today)\b|\buuid[1-7]?\b|\brandom\b|\btime\.\w|\bos\.|(?<!def )\bopen\(|\bprint\("
)

TESTS = written("tests")


def test_there_is_something_to_check():
    assert len(PRODUCT) > 40
    assert {file.relative_to(ROOT).parts[0] for file in PRODUCT} == set(PACKAGES)


def test_every_module_says_what_it_is():
    assert [name(file) for file in PRODUCT if not ast.get_docstring(tree(file))] == []


def test_no_module_is_a_drawer():
    assert [name(file) for file in PRODUCT if DRAWERS & {*file.stem.split("_"), *file.relative_to(ROOT).parts}] == []


def test_no_module_leaves_a_note_to_self():
    assert [name(file) for file in PRODUCT if re.search(r"\b(TODO|FIXME|XXX|HACK)\b", file.read_text())] == []


def test_what_is_told_to_be_a_number_can_be_read_as_one():
    # `isdigit` knows digits that `int` does not, like a superscript two: `isdecimal` knows the same ones.
    assert [name(file) for file in PRODUCT if ".isdigit(" in file.read_text()] == []


def test_nothing_is_swallowed():
    handlers = (
        (file, node) for file in PRODUCT for node in ast.walk(tree(file)) if isinstance(node, ast.ExceptHandler)
    )
    broad = ((file, one) for file, one in handlers if one.type is None or ast.unparse(one.type) == "BaseException")
    swallowing = [
        f"{name(file)}:{handler.lineno}"
        for file, handler in broad
        if not any(isinstance(inner, ast.Raise) and inner.exc is None for inner in ast.walk(handler))
    ]
    assert swallowing == []


def test_the_core_has_no_clock_no_chance_and_no_world():
    core = [file for file in PRODUCT if file.relative_to(ROOT).parts[0] in PURE]
    impure = {
        name(file): IMPURE.findall(ast.unparse(_without_docstrings(ast.parse(file.read_text())))) for file in core
    }
    assert {file: found for file, found in impure.items() if found} == {}


def test_tests_mock_nothing_of_ours():
    imported = (
        (file, alias.name)
        for file in TESTS
        for node in ast.walk(tree(file))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in [*node.names, ast.alias(getattr(node, "module", "") or "")]
    )
    assert [(name(file), told) for file, told in imported if told.startswith(("unittest.mock", "mock"))] == []


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
