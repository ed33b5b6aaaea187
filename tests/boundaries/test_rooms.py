"""The wall: what the table of rooms says of the imports of the project is so."""

import ast
import importlib
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

PROJECT = Path(__file__).parents[2]
TABLE: Mapping[str, Any] = yaml.safe_load(
    Path(__file__).with_name("rooms.yaml").read_text(encoding="utf-8")
)
ROOTS = ("study", "trainables")
SPACES = "search_spaces"
PACKAGES = (*ROOTS, SPACES)


class Arrow(NamedTuple):
    """An import of a file (its relative path) or of `package.name` of the index.

    `names` are what is imported of the target; empty where the target itself is.
    """

    target: str
    names: tuple[str, ...] = ()


@cache
def modules(root: str) -> list[str]:
    """The files below a root, relative to the project."""
    paths = (PROJECT / root).rglob("*.py")
    return sorted(path.relative_to(PROJECT).as_posix() for path in paths)


DOORS = [
    entry
    for entry in modules("study")
    if entry.endswith("/__init__.py") and "__all__" in (PROJECT / entry).read_text(encoding="utf-8")
]


@pytest.mark.slow
def test_the_house_is_as_its_table_says() -> None:
    assert [*_table(), *_crowds(), *_homeless(), *_crossings(), *_packages(), *_circles()] == []


@pytest.mark.parametrize("entry", DOORS)
def test_a_door_has_what_it_names_for_readers_of_its_code_too(entry: str) -> None:
    package = importlib.import_module(Path(entry).parent.as_posix().replace("/", "."))
    declared = set(_declared(ast.parse((PROJECT / entry).read_text(encoding="utf-8"))))
    inner = {path.stem for path in (PROJECT / entry).parent.iterdir()}
    assert declared <= set(package.__all__) <= declared | inner
    for name in package.__all__:
        if name in declared:
            assert getattr(package, name) is not None
        else:
            importlib.import_module(f"{package.__name__}.{name}")


def test_a_door_refuses_other_names() -> None:
    with pytest.raises(ImportError, match="cannot import name 'nothing'"):
        exec("from study.engine import nothing")


def _declared(tree: ast.Module) -> Iterator[str]:
    """The names that are imported from the room, at once or in a block for type checkers alone."""
    for block in tree.body:
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING":
            yield from _declared(ast.Module(block.body, []))
        elif isinstance(block, ast.ImportFrom) and str(block.module).count(".") > 1:
            yield from (alias.asname or alias.name for alias in block.names)


@cache
def arrows(source: str) -> list[Arrow]:
    """All imports in a file, also those within functions."""
    return list(_arrows(source))


def _arrows(source: str) -> Iterator[Arrow]:
    for node in ast.walk(ast.parse((PROJECT / source).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Arrow(_file(alias.name) or alias.name)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source} uses a relative import"
            module = node.module or ""
            for alias in node.names:
                inner = _file(f"{module}.{alias.name}")
                if inner is not None:
                    yield Arrow(inner)
                elif (package := _file(module)) is not None:
                    yield Arrow(package, (alias.name,))
                else:
                    yield Arrow(f"{module}.{alias.name}")


@cache
def _file(dotted: str) -> str | None:
    """The file of a module of this project; None for anything else."""
    if dotted.partition(".")[0] not in PACKAGES:
        return None
    path = dotted.replace(".", "/")
    candidates = (f"{path}.py", f"{path}/__init__.py")
    return next((file for file in candidates if (PROJECT / file).is_file()), None)


def room(path: str) -> str | None:
    """The room of a file: the folder or the module below its root; None where none is named so."""
    root, _, rest = path.partition("/")
    name = rest.partition("/")[0].removesuffix(".py")
    return name if name in TABLE.get(root, {}) else None


def _table() -> Iterator[str]:
    for root in ROOTS:
        above: set[str] = set()
        for name, row in TABLE[root].items():
            for other in row.get("may", ()):
                if other not in above:
                    yield f"{root}/{name} may import {other}, which is not above it in the table"
            above.add(name)


def _crowds() -> Iterator[str]:
    files = [path for root in ROOTS for path in modules(root) if Path(path).name != "__init__.py"]
    for folder, count in Counter(path.rpartition("/")[0] for path in files).items():
        if count > TABLE["most_modules"]:
            yield f"{folder} holds {count} modules"


def _homeless() -> Iterator[str]:
    for root in ROOTS:
        for path in modules(root):
            if room(path) is None and path != f"{root}/__init__.py":
                yield f"{path} stands in no room"


def _crossings() -> Iterator[str]:
    """Imports of another room that the table does not allow, or that pass a door."""
    for root in ROOTS:
        for source in modules(root):
            here = room(source)
            for arrow in arrows(source) if here is not None else ():
                there = room(arrow.target)
                if arrow.target.startswith(f"{SPACES}/") and (root, here) != (ROOTS[0], "planning"):
                    yield f"{source} → {arrow.target}: not allowed"
                elif not arrow.target.startswith(f"{root}/"):
                    if arrow.target.startswith(f"{ROOTS[1]}/") and not _reaches(source, arrow):
                        yield f"{source} → {arrow.target}: not a door to {ROOTS[1]}"
                    if arrow.target.startswith(f"{ROOTS[0]}/"):
                        yield f"{source} → {arrow.target}: upward"
                elif there in (None, here):
                    continue
                elif there not in TABLE[root][here].get("may", ()):
                    yield f"{source} → {arrow.target}: not allowed"
                elif not _through_door(root, there, arrow):
                    yield f"{source} → {arrow.target}: past the door of {there}"


def _reaches(source: str, arrow: Arrow) -> bool:
    """Whether a file of study imports what it may of trainables."""
    rows = TABLE["study_reaches"]
    keys = [key for key in rows if source == f"study/{key}" or source.startswith(f"study/{key}/")]
    allowed = {_file(name) for key in keys for name in rows[key]}
    offered = {
        f"{door.removesuffix('__init__.py')}{name}.py"
        for door in allowed
        if door is not None and door.endswith("__init__.py")
        for name in _offered(door)
    }
    return arrow.target in allowed | offered


def _through_door(root: str, name: str, arrow: Arrow) -> bool:
    if TABLE[root][name].get("doors") != "package":
        return True
    entry = f"{root}/{name}/__init__.py"
    if arrow.target == entry:
        return set(arrow.names) <= _offered(entry)
    inner = arrow.target.removeprefix(f"{root}/{name}/").removesuffix(".py")
    return inner.removesuffix("/__init__") in _offered(entry)


@cache
def _offered(entry: str) -> set[str]:
    """What a package names in its `__all__`."""
    for node in ast.parse((PROJECT / entry).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


def _packages() -> Iterator[str]:
    """Packages of the index that a room does not take, or that are another's."""
    for root in ROOTS:
        rows = TABLE[root]
        owners = {package: name for name, row in rows.items() for package in row.get("only", ())}
        for source in modules(root):
            here = room(source)
            takes = rows.get(here, {}).get("takes")
            for arrow in arrows(source):
                package = arrow.target.partition(".")[0]
                for owned, owner in owners.items():
                    if f"{arrow.target}.".startswith(f"{owned}.") and here not in (owner, None):
                        yield f"{source} imports {owned}, which is {owner}'s"
                outside = (
                    not arrow.target.endswith(".py") and package not in sys.stdlib_module_names
                )
                if takes is not None and outside and package not in takes:
                    yield f"{source} imports {package}"
    for root, packages in TABLE["never"].items():
        for source in modules(root):
            for arrow in arrows(source):
                if arrow.target.partition(".")[0] in packages:
                    yield f"{source} imports {arrow.target}"


def _circles() -> Iterator[str]:
    """The first set of files of each root that import each other in a circle."""
    for root in ROOTS:
        graph = {
            source: {arrow.target for arrow in arrows(source) if arrow.target in modules(root)}
            for source in modules(root)
        }
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            yield f"circle: {', '.join(error.args[1])}"
