"""The rules of this code base's shape that are numbers, or are about all of it at once.

Each rule that does not hold everywhere yet names its exceptions in `tests.project.exceptions`. They may only get fewer:
a new one fails the test, and so does one that is no exception any more.
"""

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

from tests.project import exceptions
from tests.project.source import PRODUCT, ROOT, functions, lines_of, name, parameters_of, tree, written

folder_files_max = 12
file_lines_max = 400
function_lines_max = 40
parameters_max = 8
comment_percent_min, comment_percent_max = 3.0, 10.0
row_field_files_max = 3

ALL = [*PRODUCT, *written("tests", "benchmarks")]
FACES = written("workers/http")
PARSE_ERRORS = {"InvalidCommand", "TooLarge"}
NO_REFUSALS = {"NotReady", "Timeout", "Unreachable", "RuntimeError"}


def agree(found: Iterable[str], allowed: Iterable[str], rule: str) -> None:
    """What breaks the rule is exactly what is allowed to."""
    broken, excepted = set(found), set(allowed)
    assert broken - excepted == set(), f"{rule}"
    assert excepted - broken == set(), f"{rule}: these keep it now, so take them off the list of exceptions"


def test_a_folder_holds_at_most_a_dozen_files() -> None:
    counts = Counter(name(file.parent) for file in ALL)
    crowded = [folder for folder, count in counts.items() if count > folder_files_max]
    agree(crowded, exceptions.CROWDED_FOLDERS, f"at most {folder_files_max} files of Python in a folder")


def test_a_file_is_not_long() -> None:
    long = [name(file) for file in ALL if len(file.read_text(encoding="utf-8").splitlines()) > file_lines_max]
    agree(long, exceptions.LONG_FILES, f"at most {file_lines_max} lines in a file")


def test_a_function_is_not_long() -> None:
    long = [
        f"{name(file)} {function.name}"
        for file in PRODUCT
        for function in functions(file)
        if lines_of(function) > function_lines_max
    ]
    agree(long, exceptions.LONG_FUNCTIONS, f"at most {function_lines_max} lines in a function")


def test_a_function_takes_few_parameters() -> None:
    many = [
        f"{name(file)} {function.name}"
        for file in PRODUCT
        for function in functions(file)
        if parameters_of(function) > parameters_max
    ]
    agree(many, exceptions.MANY_PARAMETERS, f"at most {parameters_max} parameters, unless of a dataclass")


def test_names_of_streams_are_made_and_taken_apart_in_one_place() -> None:
    cut = re.compile(r"""\bstream\w*\[\d*:|\.r?split\("/"|\.r?partition\("/"\)|f"(service|keyspace|node|group)/\{""")
    found = [name(file) for file in PRODUCT if cut.search(file.read_text(encoding="utf-8"))]
    assert "muster/wire/stream.py" in found
    agree(set(found) - {"muster/wire/stream.py"}, exceptions.CUT_AT_SLASHES, "names of streams: muster/wire/stream.py")


def test_what_decides_and_what_evolves_knows_every_case() -> None:
    open_ended = [
        f"{name(file)} {function.name}"
        for file in written("domain", "sagas")
        for function in tree(file).body
        if isinstance(function, ast.FunctionDef) and function.name in ("decide", "evolve")
        if not any("assert_never" in ast.unparse(reached) for reached in reached_from(function, file))
    ]
    agree(open_ended, exceptions.OPEN_ENDED, "decide and evolve match a closed union and end in assert_never")


def reached_from(function: ast.FunctionDef, file: Path) -> list[ast.FunctionDef]:
    """The function, those of its file that it names in turn, and what a `decide` or `evolve` of another file reaches."""
    found: dict[str, ast.FunctionDef] = {}
    known = {node.name: node for node in tree(file).body if isinstance(node, ast.FunctionDef)}
    named = [function.name]
    while named:
        if (current := named.pop()) in known and current not in found:
            found[current] = known[current]
            named += [node.id for node in ast.walk(known[current]) if isinstance(node, ast.Name)]
    names = {node.id for one in found.values() for node in ast.walk(one) if isinstance(node, ast.Name)}
    elsewhere = [reached_from(*there) for name, there in imported(file) if name in names]
    return [*found.values(), *(one for reached in elsewhere for one in reached)]


def imported(file: Path) -> Iterable[tuple[str, tuple[ast.FunctionDef, Path]]]:
    """Each `decide` and `evolve` that the file imports, by the name that it has there, with the file that it is from."""
    for node in tree(file).body:
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            source = ROOT / f"{node.module.replace('.', '/')}.py"
            names = {one.name: one.asname or one.name for one in node.names if one.name in ("decide", "evolve")}
            for one in tree(source).body if names else ():
                if isinstance(one, ast.FunctionDef) and one.name in names:
                    yield names[one.name], (one, source)


def test_every_evolve_takes_a_state_and_a_recorded_event() -> None:
    signatures = {
        f"{name(file)}: {ast.unparse(function.args)}"
        for file in written("domain")
        for function in tree(file).body
        if isinstance(function, ast.FunctionDef) and function.name == "evolve"
    }
    assert len(signatures) >= 4
    assert {one for one in signatures if not re.search(r"^[^:]+: \w+: .+, recorded: Recorded\[\w+\]$", one)} == set()


def test_a_public_class_name_stands_in_one_module() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for file in PRODUCT:
        for node in tree(file).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(name(file))
    twice = {name for name, files in places.items() if len(files) > 1}
    agree(twice, exceptions.SHARED_CLASS_NAMES, "a public class name stands in one module")


def test_a_path_of_http_is_written_once() -> None:
    paths = Counter(
        node.value
        for file in written("workers")
        for node in ast.walk(tree(file))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"/v1/[^ ]*", node.value)
    )
    agree((path for path, count in paths.items() if count > 1), exceptions.REPEATED_PATHS, "a path is written once")


def test_faces_refuse_only_what_they_cannot_parse() -> None:
    raised = {
        f"{name(file)} {ast.unparse(node.exc.func)}"
        for file in FACES
        for node in ast.walk(tree(file))
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)
    }
    rules = {one for one in raised if one.split()[1] not in PARSE_ERRORS | NO_REFUSALS}
    agree(rules, exceptions.RULES_IN_FACES, "rules stand in decide, or where every face passes")


def test_any_only_gets_rarer() -> None:
    count = sum(isinstance(node, ast.Name) and node.id == "Any" for file in PRODUCT for node in ast.walk(tree(file)))
    assert count <= exceptions.any_max, f"{count} times `Any`: find the type"


def test_comments_stand_at_turns() -> None:
    sparse = []
    for folder in sorted({file.parent for file in PRODUCT}):
        percent = comment_percent(sorted(set(folder.glob("*.py")) & set(PRODUCT)))
        assert percent <= comment_percent_max, f"{name(folder)}: {percent:.1f} % of lines have a comment"
        if percent < comment_percent_min:
            sparse.append(name(folder))
    agree(sparse, exceptions.SPARSELY_COMMENTED, f"at least {comment_percent_min} % of lines have a comment")


def comment_percent(files: Iterable[Path]) -> float:
    """How many of the files' lines carry a comment; empty ones do not count."""
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    return 100 * sum("  # " in line or line.lstrip().startswith("# ") for line in lines) / max(1, len(lines))


def test_a_field_of_a_row_is_written_in_few_files() -> None:
    """Only names of two words and more: the others are words of everyday code, and found everywhere."""
    fields = {
        field.target.id
        for file in written("projections")
        for node in tree(file).body
        if isinstance(node, ast.ClassDef) and node.name.endswith("Row")
        for field in node.body
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and "_" in field.target.id
    }
    assert fields
    texts = [file.read_text(encoding="utf-8") for file in PRODUCT]
    spread = [
        field for field in fields if sum(bool(re.search(rf"\b{field}\b", text)) for text in texts) > row_field_files_max
    ]
    agree(spread, exceptions.SPREAD_FIELDS, f"a row's field stands in at most {row_field_files_max} files")


def test_every_folder_is_in_the_architecture() -> None:
    told = set(re.findall(r"`((?:\w+/)+)`", (ROOT / "docs/architecture.md").read_text(encoding="utf-8")))
    assert {f"{name(file.parent)}/" for file in PRODUCT} <= told
