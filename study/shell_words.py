"""Arguments that came through a shell without quotes: harmless ones pass, others are refused."""

from collections.abc import Sequence

# Brackets and commas, as in data.tasks=[10,50], change only where a file has a name like that.
CHANGED = frozenset(" \t\n\r\"'$`;&|<>(){}*?~!#\\")
INSTEAD = (
    "`ray submit` hands arguments to a shell without quotes. Give them to `ray job submit "
    "--address http://127.0.0.1:8265 -- python study/run.py ...` (after `ray dashboard "
    "CLUSTER.yaml`), which keeps them as they are, or write them into a study file that "
    "file_mounts brings to the cluster."
)


def refuse_words(words: Sequence[str]) -> None:
    """Refuses arguments of `ray submit` with signs that the shell may have changed elsewhere.

    Raises:
        ValueError: for the first one, with what to do instead.
    """
    for word in words:
        found = sorted(CHANGED & set(word))
        if found or not word:
            signs = " ".join(repr(one) for one in found) or "nothing in it"
            raise ValueError(
                f"an argument must not have signs that a shell changes, but got {word!r} "
                f"(with {signs}). {INSTEAD}"
            )


def refuse_unknown_words(words: Sequence[str], alone: bool) -> None:
    """Refuses what the command line has too much; `alone`: it came through `ray submit`.

    Raises:
        ValueError: naming the words.
    """
    if words:
        hint = f" Was it a part of a value? {INSTEAD}" if alone else " See --help."
        raise ValueError(f"unknown arguments: {' '.join(words)}.{hint}")
