"""Reads the table of rooms and the imports of the project, and says where they disagree."""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).parents[2]
TABLE = Path(__file__).with_name("rooms.yaml")
ROOTS = ("study", "trainables")
PACKAGES = (*ROOTS, "search_spaces")


@dataclass(frozen=True)
class Arrow:
    """One import: from a file to a file (relative paths), or to `package.name` of the index.

    `names` are what is imported of the target; empty where the target itself is.
    """

    source: str
    target: str
    names: tuple[str, ...] = ()


@cache
def table() -> Mapping[str, Any]:
    """The table of rooms."""
    found: Mapping[str, Any] = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    return found


@cache
def modules(root: str) -> tuple[str, ...]:
    """The files below a root, relative to the project."""
    return tuple(
        sorted(path.relative_to(PROJECT).as_posix() for path in (PROJECT / root).rglob("*.py"))
    )


@cache
def arrows(source: str) -> tuple[Arrow, ...]:
    """All imports in a file, also those within functions."""
    return tuple(_arrows(source, ast.parse((PROJECT / source).read_text(encoding="utf-8"))))


def _arrows(source: str, tree: ast.Module) -> Iterator[Arrow]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Arrow(source, _file(alias.name) or alias.name)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source} uses a relative import"
            module = node.module or ""
            for alias in node.names:
                inner = _file(f"{module}.{alias.name}")
                if inner is not None:
                    yield Arrow(source, inner)
                elif (package := _file(module)) is not None:
                    yield Arrow(source, package, (alias.name,))
                else:
                    yield Arrow(source, f"{module}.{alias.name}")


@cache
def _file(dotted: str) -> str | None:
    """The file of a module of this project; None for anything else."""
    if dotted.partition(".")[0] not in PACKAGES:
        return None
    path = dotted.replace(".", "/")
    for candidate in (f"{path}.py", f"{path}/__init__.py"):
        if (PROJECT / candidate).is_file():
            return candidate
    return None


def room(path: str) -> str | None:
    """The room of a file: the folder or the module below its root; None where none is named so."""
    root, _, rest = path.partition("/")
    name = rest.partition("/")[0].removesuffix(".py")
    return name if name in table().get(root, {}) else None


def violations() -> set[str]:
    """A line for each thing that is not as the table says."""
    return {*_table(), *_crowds(), *_homeless(), *_crossings(), *_packages(), *_circles()}


def _table() -> Iterator[str]:
    for root in ROOTS:
        above: set[str] = set()
        for name, row in table()[root].items():
            for other in row.get("may", ()):
                if other not in above:
                    yield f"{root}/{name} may import {other}, which is not above it in the table"
            above.add(name)


def _crowds() -> Iterator[str]:
    most = table()["most_modules"]
    counts: dict[str, int] = {}
    for root in ROOTS:
        for path in modules(root):
            if not path.endswith("/__init__.py"):
                folder = path.rpartition("/")[0]
                counts[folder] = counts.get(folder, 0) + 1
    for folder, count in counts.items():
        if count > most:
            yield f"{folder} holds {count} modules"


def _homeless() -> Iterator[str]:
    for root in ROOTS:
        lost = [one for one in modules(root) if room(one) is None and one != f"{root}/__init__.py"]
        if lost:
            yield f"{root}: {len(lost)} modules stand in no room"


def _crossings() -> Iterator[str]:
    """Imports of another room that the table does not allow, or that pass a door."""
    for root in ROOTS:
        for source in modules(root):
            here = room(source)
            for arrow in arrows(source) if here is not None else ():
                there = room(arrow.target)
                if not arrow.target.startswith(f"{root}/"):
                    if arrow.target.startswith(f"{ROOTS[1]}/") and not _reaches(source, arrow):
                        yield f"{source} → {arrow.target}: not a door to {ROOTS[1]}"
                    if arrow.target.startswith(f"{ROOTS[0]}/"):
                        yield f"{source} → {arrow.target}: upward"
                elif there in (None, here):
                    continue
                elif there not in table()[root][here].get("may", ()):
                    yield f"{source} → {arrow.target}: not allowed"
                elif not _through_door(root, there, arrow):
                    yield f"{source} → {arrow.target}: past the door of {there}"


def _reaches(source: str, arrow: Arrow) -> bool:
    """Whether a file of study imports what it may of trainables."""
    rows = table()["study_reaches"]
    keys = [key for key in rows if source == f"study/{key}" or source.startswith(f"study/{key}/")]
    allowed = {_file(name) for key in keys for name in rows[key]}
    return arrow.target in allowed


def _through_door(root: str, name: str, arrow: Arrow) -> bool:
    door = table()[root][name].get("doors", "modules")
    if door == "modules" or arrow.target == f"{root}/{name}.py":
        return True
    entry = f"{root}/{name}/__init__.py"
    if door == "package":
        opened = arrow.target == entry and set(arrow.names) <= _offered(entry)
        inner = arrow.target.removeprefix(f"{root}/{name}/").removesuffix(".py")
        return opened or inner.removesuffix("/__init__") in _offered(entry)
    leaves = {f"{root}/{name}/{one}.py" for one in door}
    return arrow.target in leaves


@cache
def _offered(entry: str) -> set[str]:
    """What a package names in its `__all__`."""
    for node in ast.parse((PROJECT / entry).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


def _packages() -> Iterator[str]:
    """Packages of the index that only one room may import."""
    for root in ROOTS:
        rows = table()[root]
        for owner, row in rows.items():
            for package in row.get("only", ()):
                for source in modules(root):
                    found = any(
                        f"{one.target}.".startswith(f"{package}.") for one in arrows(source)
                    )
                    if found and room(source) not in (owner, None):
                        yield f"{source} imports {package}, which is {owner}'s"


def _circles() -> Iterator[str]:
    """Sets of files that import each other in a circle."""
    for root in ROOTS:
        graph = {
            source: {one.target for one in arrows(source) if one.target.startswith(f"{root}/")}
            for source in modules(root)
        }
        # A package's own file imports what it offers; what is inside does not enter by it.
        reached = {one: _reach(graph, one) for one in graph}
        seen: set[str] = set()
        for one in graph:
            if one in reached[one] and one not in seen:
                circle = {other for other in reached[one] if one in reached[other]}
                seen |= circle
                yield f"circle: {', '.join(sorted(circle))}"


def _reach(graph: Mapping[str, set[str]], start: str) -> set[str]:
    found: set[str] = set()
    waiting = list(graph[start])
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting += graph.get(one, ())
    return found
