"""Text from elsewhere, made safe to print on a terminal."""


def printable(text: str) -> str:
    """The text with Python's escapes in place of control characters; line ends stay.

    Any caller that may tag a volume chooses text that a command prints, and a terminal executes escape sequences. Marks
    that change the direction of text are control characters, too.
    """
    return "".join(one if one.isprintable() or one == "\n" else one.encode("unicode_escape").decode() for one in text)
