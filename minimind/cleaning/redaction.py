"""Personal numbers in texts, replaced by what they are: e-mail addresses, phone numbers, Chinese identity cards."""

import re

EMAIL = re.compile(
    r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![A-Za-z0-9-])"
)
IDENTITY = re.compile(
    r"(?<![0-9A-Za-z])[1-9]\d{5}(?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d{3}[0-9Xx](?![0-9A-Za-z])"
)
PHONES = tuple(
    re.compile(pattern)
    for pattern in (
        r"(?<![0-9A-Za-z.])(?:(?:\+|00)86[- ]?)?1[3-9]\d(?:[- ]?\d{4}){2}(?![0-9A-Za-z]|\.\d)",  # Chinese mobiles
        r"(?<![0-9A-Za-z.-])0\d{2,3}-[2-9]\d{6,7}(?![0-9A-Za-z-])",  # Chinese landlines
        r"(?<![0-9A-Za-z.+])\+[1-9]\d{0,2}(?:[-. ]?\(?\d{1,4}\)?){2,5}\d(?![0-9A-Za-z])",  # with a country's code
        r"(?<![0-9A-Za-z.-])\(?[2-9]\d{2}\)?[-. ][2-9]\d{2}[-.]\d{4}(?![0-9A-Za-z-]|\.\d)",  # North American
    )
)
FEWEST_DIGITS = 8  # of a phone number: +1000 is none

_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_CHECKS = "10X98765432"


def is_identity(number: str) -> bool:
    """Whether 18 characters end in the check digit of a Chinese identity card (GB 11643-1999)."""
    total = sum(weight * int(digit) for weight, digit in zip(_WEIGHTS, number, strict=False))
    return number[17].upper() == _CHECKS[total % 11]


def redact(text: str) -> str:
    """The text with [email], [identity number] and [phone number] in place of such."""
    if "@" in text:
        text = EMAIL.sub("[email]", text)
    text = IDENTITY.sub(lambda found: "[identity number]" if is_identity(found[0]) else found[0], text)
    for pattern in PHONES:
        text = pattern.sub(lambda found: "[phone number]" if _num_digits(found[0]) >= FEWEST_DIGITS else found[0], text)
    return text


def _num_digits(number: str) -> int:
    return sum(map(str.isdigit, number))
