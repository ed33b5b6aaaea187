"""Builds the `icons` file and its notice from an `@iconify/json` tarball, deterministically."""

import argparse
import logging
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainables.data_sets.icons.icon_set import (
    ICON_SIZES,
    ICONS_FILE,
    MAGIC,
    IconSet,
    Labels,
    Mask,
    content_sha256,
    read_icons,
)
from trainables.data_sets.icons.source import (
    Family,
    IconPackage,
    Image,
    group_synonyms,
    is_blank,
    read_tarball,
    render_all,
    to_levels,
)
from trainables.data_sets.packed import join_packed, pack

MIN_FAMILIES = 30  # that a class must be drawn by
MIN_NAME_FAMILIES = 15  # that a name must be drawn by to be rendered and to join a class
TEST_SHARE = 0.3
SPLIT_SEED = 0
NOTICE_NAME = "ICONS_NOTICE.md"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Drawing:
    """One rendered drawing: who drew what, and its grey levels 0..15 at both sizes."""

    name: str
    family: str
    small: Image
    large: Image

    @property
    def keys(self) -> tuple[bytes, bytes]:
        """Return what two drawings share when they are the same bitmap at either size."""
        return self.small.tobytes(), self.large.tobytes()


def build(tarball: Path, output: Path, processes: int) -> None:
    """Write the icons file to `output` and the notice beside it."""
    package = read_tarball(tarball)
    logger.info("read %s families of version %s", len(package.families), package.version)
    drawings = render_concepts(package, processes)
    logger.info("rendered %s drawings", len(drawings))
    classes = select_classes(drawings)
    logger.info("kept %s classes, %s images", len(classes), sum(len(c) for _, c in classes))
    content = _encode(package, classes)
    output.write_bytes(content)
    notice = _notice(package, read_icons(content, 32))
    output.with_name(NOTICE_NAME).write_text(notice, encoding="utf-8")
    logger.info("wrote %s (%.2f MB)", output.name, len(content) / 1e6)


def render_concepts(package: IconPackage, processes: int) -> list[Drawing]:
    """Render every name that enough families draw, sorted by name and family; none is blank."""
    families: defaultdict[str, list[Family]] = defaultdict(list)
    for family in package.families:
        for name in family.drawings:
            families[name].append(family)
    jobs = [
        (name, family)
        for name in sorted(families)
        if len(families[name]) >= MIN_NAME_FAMILIES
        for family in families[name]
    ]
    svgs = [family.drawings[name] for name, family in jobs]
    rendered = render_all(svgs, ICON_SIZES, processes)
    drawings = []
    for (name, family), images in zip(jobs, rendered, strict=True):
        small, large = (to_levels(image) for image in images)
        if not is_blank(small):
            drawings.append(Drawing(name, family.prefix, small, large))
    return drawings


def select_classes(drawings: list[Drawing]) -> list[tuple[tuple[str, ...], list[Drawing]]]:
    """Return (names, drawings) per class, sorted by class name, one drawing per family.

    Names that are synonyms form one class, named after the name that most families draw. A bitmap
    that then stands in two classes is dropped from both, and one that two families of a class
    share is kept for the first of them only.
    """
    groups = group_synonyms([(d.name, d.family, d.keys) for d in drawings])
    names_of = {name: names for names in groups for name in names}
    owners: defaultdict[bytes, set[str]] = defaultdict(set)
    for drawing in drawings:
        for key in drawing.keys:
            owners[key].add(names_of[drawing.name][0])
    members: defaultdict[tuple[str, ...], dict[str, Drawing]] = defaultdict(dict)
    for names in groups:
        rank = {name: position for position, name in enumerate(names)}
        own = [d for d in drawings if d.name in rank]
        for drawing in sorted(own, key=lambda d: (d.family, rank[d.name])):
            if all(len(owners[key]) == 1 for key in drawing.keys):
                members[names].setdefault(drawing.family, drawing)
    kept = []
    for names in sorted(members):
        if len(members[names]) >= MIN_FAMILIES:
            kept.append((names, _without_duplicates(list(members[names].values()))))
    return kept


def _without_duplicates(drawings: list[Drawing]) -> list[Drawing]:
    seen: set[bytes] = set()
    unique = []
    for drawing in drawings:
        if seen.isdisjoint(drawing.keys):
            unique.append(drawing)
        seen.update(drawing.keys)
    return unique


def _encode(package: IconPackage, classes: list[tuple[tuple[str, ...], list[Drawing]]]) -> bytes:
    drawings = [drawing for _, members in classes for drawing in members]
    prefixes = sorted({drawing.family for drawing in drawings})
    position = {prefix: index for index, prefix in enumerate(prefixes)}
    labels = [label for label, (_, members) in enumerate(classes) for _ in members]
    families = [position[drawing.family] for drawing in drawings]
    index = np.array([labels, families, _test_flags(np.array(labels))], "<u2")
    blocks = {
        "index": index.tobytes(),
        "32": pack(np.stack([drawing.small for drawing in drawings])).tobytes(),
        "64": pack(np.stack([drawing.large for drawing in drawings])).tobytes(),
    }
    header: dict[str, Any] = {
        "package": "@iconify/json",
        "version": package.version,
        "sha256": package.sha256,
        "content_sha256": "",
        "images": len(drawings),
        "families": prefixes,
        "classes": [list(names) for names, _ in classes],
    }
    draft = join_packed(MAGIC, header, blocks)
    small, large = (read_icons(draft, size) for size in ICON_SIZES)
    return join_packed(MAGIC, header | {"content_sha256": content_sha256(small, large)}, blocks)


def _test_flags(labels: Labels) -> Mask:
    generator = np.random.default_rng(SPLIT_SEED)
    flags = np.zeros(len(labels), np.bool_)
    for label in range(int(labels.max()) + 1):
        members = generator.permutation(np.flatnonzero(labels == label))
        flags[members[: round(TEST_SHARE * len(members))]] = True
    return flags


def _notice(package: IconPackage, icon_set: IconSet) -> str:
    numbers = np.bincount(icon_set.families).tolist()
    counts = dict(zip(icon_set.family_names, numbers, strict=True))
    lines = [
        "# Notice for the `icons` data",
        "",
        f"The images in `icons.bin` are renderings of drawings from the npm package "
        f"`@iconify/json` {package.version} (sha256 of its tarball `{package.sha256}`): grey on "
        "white, at 32 and 64 pixels, 16 grey levels. They are otherwise unchanged. Each family "
        "stays under the licence of its author; thanks to all of them. Names and logos of brands "
        "may be trademarks of their owners.",
        "",
        "Families without an image here only served, like the others, to pretrain `compact_vit` "
        "(see `../../backbones/compact_vit_card.md`).",
        "",
        "This file is written by `python -m trainables.data_sets.icons.build`.",
        "",
        "| Family | Title | Licence | Author | Images |",
        "| --- | --- | --- | --- | ---: |",
    ]
    for family in package.families:
        licence = _link(family.licence, family.licence_url)
        author = _link(family.author, family.url)
        lines.append(
            f"| {family.prefix} | {_cell(family.title)} | {licence} | {author} "
            f"| {counts.get(family.prefix, 0)} |"
        )
    lines += ["", f"Together: {len(icon_set.labels)} images from {len(counts)} families.", ""]
    return "\n".join(lines)


def _link(text: str, url: str) -> str:
    return f"[{_cell(text)}]({url})" if url else _cell(text)


def _cell(text: str) -> str:
    return text.replace("|", "/").strip()


def main() -> None:
    """Rebuild the file from an `@iconify/json` npm tarball."""
    parser = argparse.ArgumentParser(
        prog="python -m trainables.data_sets.icons.build", description=__doc__
    )
    parser.add_argument("--tarball", type=Path, required=True, help="npm tarball of @iconify/json")
    parser.add_argument("--output", type=Path, default=ICONS_FILE, help="file to write")
    parser.add_argument("--processes", type=int, default=2, help="rendering processes")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    build(arguments.tarball, arguments.output, arguments.processes)


if __name__ == "__main__":
    main()
