"""Arguments that came through a shell without quotes: harmless ones pass, others are refused."""

from collections.abc import Sequence

# Brackets and commas, as in data.tasks=[10,50], change only where a file has a name like that.
CHANGED = frozenset("\t\n\r\"'$`;&|<>(){}*?~!#\\")
INSTEAD = (
    "`ray submit` hands arguments to a shell without quotes. Give them to `ray job submit "
    "--address http://127.0.0.1:8265 -- python study/run.py ...` (after `ray dashboard "
    "CLUSTER.yaml`), which keeps them as they are, or write them into a study file that "
    "file_mounts brings to the cluster."
)


def refuse_words(words: Sequence[str], typed: str | None, left: bool) -> None:
    """Refuses arguments of `ray submit` that the shell has changed, or would change elsewhere.

    Args:
        words: what arrived.
        typed: the same before a shell saw it, where that is known.
        left: whether the shell that started this process has ended.

    Raises:
        ValueError: for the first one, with what to do instead.
    """
    for word in (*(typed or "").split(), *words):
        found = sorted((CHANGED | {" "}) & set(word))
        if found or not word:
            signs = " ".join(repr(one) for one in found) or "nothing in it"
            raise ValueError(
                f"an argument must not have signs that a shell changes, but got {word!r} "
                f"(with {signs}). {INSTEAD}"
            )
    if typed is not None and typed.split() != list(words):
        raise ValueError(
            f"arguments must arrive as they were typed, but {' '.join(typed.split())!r} became "
            f"{' '.join(words)!r}. {INSTEAD}"
        )
    if typed is None and left:
        raise ValueError(
            f"the shell that starts a study must wait for it, but it has ended: was there an "
            f"'&' in the arguments? {INSTEAD}"
        )


def refuse_unknown_words(words: Sequence[str], alone: bool) -> None:
    """Refuses what the command line has too much; `alone`: it came through `ray submit`.

    Raises:
        ValueError: naming the words.
    """
    if words:
        hint = f" Was it a part of a value? {INSTEAD}" if alone else " See --help."
        raise ValueError(f"unknown arguments: {' '.join(words)}.{hint}")
