"""YAML as study files use it: no key twice, nothing that reads otherwise than it looks, limits."""

import math
import re
from typing import Any

import yaml

# The largest study that comes along has a hundredth of each.
MOST_BYTES = 200_000
MOST_VALUES = 10_000
MOST_LEVELS = 30
# What YAML 1.1, which PyYAML follows, and YAML 1.2 read alike, by the type of the former.
PLAIN = {
    "int": re.compile(r"[-+]?(0|[1-9]\d*)", re.ASCII),
    "float": re.compile(r"[^_:]*"),
}
# Texts of YAML 1.1 that are numbers elsewhere: 008, 0o10.
OTHER_NUMBERS = re.compile(r"[-+]?0[\d_]+|0o[0-7]+", re.ASCII)
# Not "off", which keys have as a value, whether it is read as a text or as false.
SWITCHES = ("yes", "no", "on")


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which would keep the last of two equal keys."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._level = 0
        # By node: its values with all that aliases repeat, and its levels.
        self._sizes: dict[int, tuple[int, int]] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """As PyYAML, but within the limits, where an alias counts as what it repeats."""
        line = self.peek_event().start_mark.line + 1
        alias = self.check_event(yaml.AliasEvent)
        self._level += 1
        self._check_size(0, self._level, line)
        node = super().compose_node(parent, index)
        self._level -= 1
        if node is None:
            return None
        if not alias:
            children = node.value if isinstance(node, yaml.CollectionNode) else ()
            if isinstance(node, yaml.MappingNode):
                children = [part for pair in children for part in pair]
            inner = [self._sizes[id(child)] for child in children]
            values = 1 + sum(size for size, _ in inner)
            self._sizes[id(node)] = (values, 1 + max((levels for _, levels in inner), default=0))
        elif id(node) not in self._sizes:
            raise ValueError(f"a value must not hold itself, but that in line {line} does.")
        self._check_size(*self._sizes[id(node)], line)
        return node

    def _check_size(self, values: int, levels: int, line: int) -> None:
        if max(values, len(self._sizes)) > MOST_VALUES:
            raise ValueError(
                f"the text must have at most {MOST_VALUES} values, aliases written out, but has "
                f"more (line {line})."
            )
        if levels > MOST_LEVELS:
            raise ValueError(
                f"the text must be nested in at most {MOST_LEVELS} levels, but is in more "
                f"(line {line})."
            )

    def compose_scalar_node(self, anchor: Any) -> yaml.ScalarNode:
        """As PyYAML, but refuses what reads otherwise than it looks, and halves of characters."""
        plain = self.peek_event().implicit[0]
        node = super().compose_scalar_node(anchor)
        kind, text, line = node.tag.rpartition(":")[2], node.value, node.start_mark.line + 1
        odd = kind in PLAIN and re.search(r"\d", text) and not PLAIN[kind].fullmatch(text)
        if odd or (plain and kind == "str" and OTHER_NUMBERS.fullmatch(text)):
            raise ValueError(
                f"a number must be decimal, without '_', ':' or a 0 in front (a text in quotes), "
                f"but got {text!r} (line {line})."
            )
        if kind in PLAIN and not _in_range(kind, text):
            raise ValueError(
                f"a number must be one that a computer has (whole ones within 64 bits), but got "
                f"{text!r} (line {line})."
            )
        if kind == "bool" and text.lower() in SWITCHES:
            raise ValueError(
                f"a truth value must be true or false (a text in quotes), but got {text!r} "
                f"(line {line})."
            )
        try:
            # JSON writes a character beyond U+FFFF as two halves.
            node.value = text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"a text must consist of whole characters, but has half of one: {text!r} "
                f"(line {line})."
            ) from error
        return node

    def scan_flow_scalar_non_spaces(self, double: bool, start_mark: Any) -> list[str]:
        """As PyYAML, but names the line of an escape beyond the last character."""
        try:
            return super().scan_flow_scalar_non_spaces(double, start_mark)
        except (ValueError, OverflowError) as error:
            raise ValueError(
                f"an escape must name a character, but one in line {self.line + 1} does not."
            ) from error

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """As PyYAML, but names a single value that is not what its form says, as 2020-13-45."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError) as error:
            if not isinstance(node, yaml.ScalarNode):
                raise
            raise ValueError(
                f"the text must be YAML, but {node.value!r} is no {node.tag.rpartition(':')[2]} "
                f"(line {node.start_mark.line + 1})."
            ) from error

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """As PyYAML, but refuses keys that are there twice or are no single values."""
        lines: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise ValueError(
                    f"a key must be a single value, but the one in line {line} is not."
                )
            if key.value in lines:
                raise ValueError(
                    f"a key must occur once, but {key.value!r} is in line {lines[key.value]} "
                    f"and again in line {line}."
                )
            lines[key.value] = line
        return super().construct_mapping(node, deep)


def _in_range(kind: str, text: str) -> bool:
    """Whether a number is neither infinite nor 0 where its digits say otherwise; 64 bits."""
    if kind == "int":
        # No number at all is told of as such. Twenty letters have all of 64 bits.
        whole = PLAIN["int"].fullmatch(text)
        return not whole or (len(text) <= 20 and abs(int(text)) < 2**63)
    try:
        value = float(text)
    except ValueError:
        # As .inf, or no number at all.
        return True
    digits = text.lower().partition("e")[0]
    return math.isfinite(value) and (value != 0 or not re.search(r"[1-9]", digits))


# YAML 1.1, which PyYAML follows, takes a number for text unless it has a point: 1e-3.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def parse(text: str) -> Any:
    """Parses one YAML document into plain Python values.

    Raises:
        ValueError: with the line, if it is not YAML or beyond the limits; if a mapping has a key
            twice, or one that is not a single value; if a value reads otherwise than it looks.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        # In the order of the text, and nothing that holds itself.
        return None if node is None else loader.construct_object(node, deep=True)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise ValueError(f"the text must be YAML, but {problem}{place}.") from error
