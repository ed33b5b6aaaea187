"""Drawings of an `@iconify/json` npm tarball, rendered, and which names mean the same; to build."""

import hashlib
import io
import json
import multiprocessing
import tarfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

LICENCES = ("Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC-BY-4.0", "CC0-1.0", "ISC", "MIT",
            "Unlicense")  # fmt: skip
MIN_AGREEMENT = 0.2  # share of the families drawing both names that draw them alike
MIN_VETO_FAMILIES = 5  # families drawing both that make a lower agreement count against a merge

Image = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Family:
    """One design family: its iconify prefix, its drawings by name, and who may be thanked."""

    prefix: str
    title: str
    author: str
    url: str
    licence: str
    licence_url: str
    drawings: dict[str, str]


@dataclass(frozen=True)
class IconPackage:
    """The permissively licensed part of one release, families sorted by prefix."""

    version: str
    sha256: str
    families: tuple[Family, ...]


def read_tarball(path: Path) -> IconPackage:
    """Read the npm tarball at `path`; every drawing becomes one SVG text."""
    if not path.is_file():
        raise ValueError(f"the tarball must be an existing file, but got {path=!s}.")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    texts: dict[str, bytes] = {}
    with tarfile.open(path, "r:gz") as archive:
        for member in archive:
            name = member.name.removeprefix("package/")
            if name in ("package.json", "collections.json") or name.startswith("json/"):
                handle = archive.extractfile(member)
                if handle is not None:
                    texts[name] = handle.read()
    if "collections.json" not in texts or "package.json" not in texts:
        raise ValueError(f"the tarball must be one of @iconify/json, but got {path=!s}.")
    collections = json.loads(texts["collections.json"])
    families = tuple(
        _family(prefix, collections[prefix], json.loads(texts[f"json/{prefix}.json"]))
        for prefix in sorted(collections)
        if collections[prefix].get("license", {}).get("spdx") in LICENCES
    )
    return IconPackage(json.loads(texts["package.json"])["version"], sha256, families)


def render(svg: str, size: int) -> Image:
    """Render one SVG text as grey (0 black, 255 white background), shape (size, size)."""
    import resvg_py
    from PIL import Image as PillowImage

    try:
        png = resvg_py.svg_to_bytes(
            svg_string=svg, width=size, height=size, background="#ffffff", skip_system_fonts=True
        )
    except ValueError:  # a drawing that resvg refuses counts as blank, and blank ones are dropped
        return np.full((size, size), 255, np.uint8)
    return np.asarray(PillowImage.open(io.BytesIO(png)).convert("L"), np.uint8)


def render_all(svgs: Sequence[str], sizes: Sequence[int], processes: int) -> Iterator[list[Image]]:
    """Yield, in the order of `svgs`, one list of images per drawing, one image per size."""
    jobs = [(svg, tuple(sizes)) for svg in svgs]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap(_render_sizes, jobs, chunksize=64)


def to_levels(image: Image) -> Image:
    """Quantise grey 0..255 to the 16 levels 0..15, rounding to the nearest (level × 17 = grey)."""
    return ((image.astype(np.uint16) + 8) // 17).astype(np.uint8)


def is_blank(levels: Image) -> bool:
    """Tell whether an image of levels 0..15 shows (almost) nothing: too little ink or no paper."""
    return int((levels < 8).sum()) < 8 or int(levels.max()) < 4


def group_synonyms(
    drawings: Iterable[tuple[str, str, tuple[bytes, ...]]],
) -> list[tuple[str, ...]]:
    """Partition the names of (name, family, bitmap keys) into groups of synonyms.

    Two names agree in a family when a bitmap is stored under both and the family owns one of them.
    The pairs are merged in falling order of agreement if it reaches `MIN_AGREEMENT`, unless that
    would join two names which many families draw both and draw differently: a slip in one family
    (the same file for `file` and `folder`) must not chain classes together. Within a group the
    name drawn by most families comes first; the groups are sorted.
    """
    families: defaultdict[str, set[str]] = defaultdict(set)
    owners: defaultdict[bytes, set[tuple[str, str]]] = defaultdict(set)
    for name, family, keys in drawings:
        families[name].add(family)
        for key in keys:
            owners[key].add((name, family))
    shared = _shared_families(owners.values())

    def agreement(pair: tuple[str, str]) -> float:
        both = len(families[pair[0]] & families[pair[1]])
        return len(shared.get(pair, ())) / max(both, 1)

    def differs(pair: tuple[str, str]) -> bool:
        both = len(families[pair[0]] & families[pair[1]])
        return both >= MIN_VETO_FAMILIES and agreement(pair) < MIN_AGREEMENT

    group_of = {name: frozenset([name]) for name in families}
    for pair in sorted(shared, key=lambda pair: (-agreement(pair), pair)):
        left, right = group_of[pair[0]], group_of[pair[1]]
        if left == right or agreement(pair) < MIN_AGREEMENT:
            continue
        if any(differs((min(a, b), max(a, b))) for a in left for b in right):
            continue
        for name in left | right:
            group_of[name] = left | right
    groups = {
        tuple(sorted(group, key=lambda name: (-len(families[name]), name)))
        for group in group_of.values()
    }
    return sorted(groups)


def _render_sizes(job: tuple[str, tuple[int, ...]]) -> list[Image]:
    return [render(job[0], size) for size in job[1]]


def _family(prefix: str, info: dict[str, Any], content: dict[str, Any]) -> Family:
    icons: dict[str, dict[str, Any]] = {
        name: icon for name, icon in content["icons"].items() if not icon.get("hidden")
    }
    resolved = dict(icons)
    aliases: dict[str, dict[str, Any]] = content.get("aliases", {})
    for name in aliases:
        target: str | None = name
        while target in aliases:  # a plain alias only renames; others flip, rotate or hide
            alias = aliases[target]
            target = alias["parent"] if set(alias) == {"parent"} else None
        if target in icons:
            resolved[name] = icons[target]
    still = {name: icon for name, icon in resolved.items() if not _is_animated(icon["body"])}
    return Family(
        prefix=prefix,
        title=info["name"],
        author=info["author"]["name"],
        url=info["author"].get("url", ""),
        licence=info["license"]["spdx"],
        licence_url=info["license"].get("url", ""),
        drawings={name: _svg(still[name], content) for name in sorted(still)},
    )


def _is_animated(body: str) -> bool:
    return "<animate" in body or "<set " in body  # the first frame is often empty


def _svg(icon: dict[str, Any], defaults: dict[str, Any]) -> str:
    left, top, width, height = (
        icon.get(key, defaults.get(key, default))
        for key, default in (("left", 0), ("top", 0), ("width", 16), ("height", 16))
    )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{left} {top} {width} {height}" width="64" height="64" '
        f'color="#000">{icon["body"]}</svg>'
    )


def _shared_families(
    owner_sets: Iterable[set[tuple[str, str]]],
) -> dict[tuple[str, str], set[str]]:
    shared: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for owners in owner_sets:
        names = sorted({name for name, _ in owners})
        for pair in combinations(names, 2):
            shared[pair].add(min(family for name, family in owners if name in pair))
    return dict(shared)
