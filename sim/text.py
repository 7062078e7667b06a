"""What a user named, as text that any terminal can show and any shell can take."""

import shlex


def printable(value: object) -> str:
    r"""The text of `value`, fit to print on one line: what is no visible character appears as `\n`, `\x1b`, `\u202e`.

    A byte of a file name that is no UTF-8 (a lone surrogate in Python) appears as that byte, `\xff`.
    """
    return "".join(char if char.isprintable() else _escaped(char) for char in str(value))


def shell_word(value: object) -> str:
    """`value` as one word of a shell's command line; one line even if it holds line breaks (then bash or zsh is needed)."""
    text = str(value)
    if text.isprintable():
        return shlex.quote(text)
    parts = (char if char.isprintable() else _escaped_bytes(char) for char in
             text.replace("\\", "\\\\").replace("'", "\\'"))
    return "$'" + "".join(parts) + "'"


def short(number: int) -> str:
    """Three digits and a unit.

    >>> short(999), short(40_812_544)
    ('999', '40.8M')
    """
    for unit, size in (("T", 10**12), ("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return str(number)


def _escaped(char: str) -> str:
    if "\udc80" <= char <= "\udcff":
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape").decode()


def _escaped_bytes(char: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogateescape"))
