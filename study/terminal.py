"""Lines of text for the person at the terminal."""

from rich.console import Console


def say(text: str, error: bool = False) -> None:
    """Prints lines as they are: nothing is wrapped, coloured or taken for markup."""
    Console(stderr=error).print(text, markup=False, highlight=False, soft_wrap=True)
