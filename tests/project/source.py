"""The source of this code base as the tests of its shape read it."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("domain", "sagas", "projections", "infra", "workers", "muster")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def name(file: Path) -> str:
    """The file's path in the repository."""
    return file.relative_to(ROOT).as_posix()


def written(*folders: str) -> list[Path]:
    """All files of Python in these folders that people have written."""
    files = (file for folder in folders for file in (ROOT / folder).rglob("*.py"))
    return sorted(file for file in files if "_pb2" not in file.name)


PRODUCT = written(*PACKAGES)


@cache
def tree(file: Path) -> ast.Module:
    """The file, parsed."""
    return ast.parse(file.read_text(encoding="utf-8"))


def functions(file: Path) -> Iterator[Function]:
    """Every function and method of the file, also those inside others."""
    return (node for node in ast.walk(tree(file)) if isinstance(node, Function))


def lines_of(function: Function) -> int:
    """How long it is, without its decorators."""
    return (function.end_lineno or 0) - function.lineno + 1


def parameters_of(function: Function) -> int:
    """How many it takes; `self` and `cls` do not count."""
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return len([argument for argument in named if argument.arg not in ("self", "cls")])
