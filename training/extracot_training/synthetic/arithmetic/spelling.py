"""Numbers as people write them: in words, as amounts of money, with decimals. Pure."""

from __future__ import annotations

ONES: tuple[str, ...] = (
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
)
ONES += ("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen")
ONES += ("eighteen", "nineteen")
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")


def spelled(value: int) -> str:
    """A number below 1000 in words.

    >>> spelled(7), spelled(42), spelled(105)
    ('seven', 'forty-two', 'one hundred and five')
    """
    if value < 20:
        return ONES[value]
    if value < 100:
        tens, ones = TENS[value // 10 - 2], value % 10
        return f"{tens}-{ONES[ones]}" if ones else tens
    hundreds, rest = f"{ONES[value // 100]} hundred", value % 100
    return f"{hundreds} and {spelled(rest)}" if rest else hundreds


def decimal(value: int, places: int) -> str:
    """So many tenths, or hundredths, without zeros at the end.

    >>> decimal(1625, 2), decimal(62, 1), decimal(450, 2), decimal(800, 2), decimal(5, 2)
    ('16.25', '6.2', '4.5', '8', '0.05')
    """
    whole, part = divmod(value, 10**places)
    digits = f"{part:0{places}}".rstrip("0") if places else ""
    return f"{whole}.{digits}" if digits else str(whole)


def money(cents: int) -> str:
    """An amount as prices are written.

    >>> money(1650), money(800), money(5)
    ('16.50', '8', '0.05')
    """
    whole, part = divmod(cents, 100)
    return f"{whole}.{part:02}" if part else str(whole)
