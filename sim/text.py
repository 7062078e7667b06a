"""What a user named, as text that can be printed anywhere."""


def printable(value: object) -> str:
    r"""The text of `value`, fit to print on one line: what is no visible character appears as `\n`, `\x1b`, `\u202e`.

    A byte of a file name that is no UTF-8 (a lone surrogate in Python) appears as that byte, `\xff`.
    """
    return "".join(char if char.isprintable() else _escaped(char) for char in str(value))


def _escaped(char: str) -> str:
    if "\udc80" <= char <= "\udcff":
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape").decode()
