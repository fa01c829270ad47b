"""The published language: what clients, data nodes and controllers say to each other. Pure."""

from typing import Final

DEFAULT_URL: Final = "http://127.0.0.1:8740"
"""Where a controller listens and clients look for it, unless an option says otherwise."""


def printable(text: str) -> str:
    r"""The text with all that cannot be printed escaped: `\n`, `\x1b`, `\u202e` (which turns the rest of a line around).

    Letters, marks and signs of all scripts stay as they are. `--json` tells the text exactly; this is for eyes.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def printable_json(document: str) -> str:
    """The same JSON, with all that cannot be printed escaped as JSON does it.

    JSON itself escapes only the oldest control characters. A terminal obeys newer ones, too: U+009B begins a sequence.
    """
    return document if document.isprintable() else "".join(map(_in_json, document))


def _in_json(char: str) -> str:
    if char.isprintable():
        return char
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
