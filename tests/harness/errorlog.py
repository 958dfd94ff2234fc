"""What an error log must not hold when a test ends, unless the test expects it."""

import re

SUSPECT = re.compile(
    r"\[(?:alert|emerg|crit)\]"
    r"|exited on signal|exited with code [1-9]|exited with fatal code"
    r"|panicked at|open socket #"
    r"|Sanitizer|runtime error:|Fatal Python error"
    r"|Traceback \(most recent call last\)|garbage collected without being closed"
)


def unexpected(text, expected):
    """The suspect lines of a log that none of the expected patterns covers."""
    return [
        line[:500]
        for line in text.splitlines()
        if SUSPECT.search(line) and not any(pattern.search(line) for pattern in expected)
    ]
