"""What `import muster` offers: three lists that say the same, each name where it is said to be."""

import ast
import subprocess
import sys
from collections import Counter
from importlib import import_module
from pathlib import Path

import muster

SOURCE = Path(muster.__file__).read_text(encoding="utf-8")


def typed() -> dict[str, str]:
    """The names that type checkers see, with their modules."""
    [block] = [
        node
        for node in ast.parse(SOURCE).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    return {
        alias.name: str(node.module) for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }


def test_type_checkers_and_programs_find_each_name_in_the_same_module() -> None:
    assert Counter(name for names in muster._NAMES_OF.values() for name in names) == Counter(typed().keys())
    assert {name: module for module, names in muster._NAMES_OF.items() for name in names} == typed()


def test_every_name_is_exported_and_every_export_is_there() -> None:
    assert sorted([*typed(), "__version__"]) == sorted(muster.__all__)
    for name, module in typed().items():
        assert getattr(muster, name) is getattr(import_module(module), name), name


def test_a_new_interpreter_lists_all_names_and_has_loaded_nothing_heavy() -> None:
    listing = "import sys, muster; print(*dir(muster)); print(*sorted(sys.modules))"
    run = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True)
    names, modules = (set(line.split()) for line in run.stdout.splitlines())
    assert names == set(muster.__all__)
    assert {"Client", "Keyspace", "KafkaCommands", "Agent", "__version__"} <= names
    assert not modules & {"aiohttp", "aiokafka", "grpc", "pydantic", "click", "rich"}
