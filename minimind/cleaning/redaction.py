"""Personal numbers in texts, replaced by what they are: e-mail addresses, phone numbers, Chinese identity cards.

Whether digits can be dialled is asked of phonenumbers, Google's tables of the world's numbering plans; the check digit
of an identity card of python-stdnum. A number without a country's code is read as one of China or of North America,
the two plans that the data of MiniMind speaks of. What stands around it then decides whether it is an amount, a key or
part of an address (`context`). Full-width digits and signs count as the ordinary ones.
"""

import re
from collections.abc import Callable, Iterator

from minimind.cleaning import context
from minimind.cleaning.units import narrow

EMAIL = re.compile(
    r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![A-Za-z0-9-])"
)
IDENTITY = re.compile(
    r"(?<![0-9A-Za-z])[1-9]\d{5}[- ]?(?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])[- ]?\d{3}[0-9Xx]"
    r"(?![0-9A-Za-z])"
)
# Eight digits or more with little between them. Only those in which a number may begin, unlike a date, are shown to
# phonenumbers, which takes a fifth of a millisecond for each.
CANDIDATE = re.compile(r"(?<![0-9.])(?:\+ ?)?\(?\d(?:[-. ()]{0,3}\d){7,24}")
BEGINNING = re.compile(
    r"\+|(?<!\d)(?:00 ?[1-9]|86[- ]?[1-9(]|0\d{2,3}\)?[- ]?\d{3}|1[3-9](?:[-. ]?\d){9}|\(?[48]00\)?(?:[-. ]?\d){7}|"
    r"\(?[2-9]\d\d\)?[-. ]{0,2}\d{3}[-. ]?\d{4}(?!\d))"
)
LOCAL = re.compile(r"(?<![\d.-])[2-8]\d{3}[- ]?\d{4}(?![\d-]|\.\d)")  # without an area's code
NORTH_AMERICAN = re.compile(r"(?:\+?1[-. ]?)?(?:\([2-9]\d\d\) ?|[2-9]\d\d[-. ])\d{3}[-. ]\d{4}")
EXTENDED = re.compile(r"(\(?0\d{2,3}\)?[- ]?\d{3,4}[- ]?\d{4})-\d{1,5}")  # Chinese landlines with an extension
FEWEST_DIGITS = 8  # of a number with its country's code: +1000 is none

Span = tuple[int, int]


def redact(text: str) -> str:
    """The text with [email], [identity number] and [phone number] in place of such."""
    if "@" in text or "＠" in text:
        text = _replace(text, "[email]", lambda plain: (found.span() for found in EMAIL.finditer(plain)))
    if not _DIGITS.search(text):
        return text
    text = _replace(text, "[identity number]", _identities)
    return _replace(text, "[phone number]", _phones)


_DIGITS = re.compile(r"\d(?:\D{0,3}\d){7}")


def _replace(text: str, shown: str, find: Callable[[str], Iterator[Span]]) -> str:
    pieces, end = [], 0
    for start, stop in find(narrow(text)):
        pieces += [text[end:start], shown]
        end = stop
    return "".join((*pieces, text[end:])) if pieces else text


def _identities(text: str) -> Iterator[Span]:
    from stdnum.cn import ric

    for found in IDENTITY.finditer(text):
        number = re.sub("[- ]", "", found[0]).upper()
        # The place of birth is not asked for: districts come and go.
        if ric.calc_check_digit(number) == number[-1]:
            yield found.span()


def _phones(text: str) -> Iterator[Span]:
    candidates = (found for found in CANDIDATE.finditer(text) if BEGINNING.search(found[0]))
    spans = [span for found in candidates for span in _within(text, found)]
    spans += [found.span() for found in LOCAL.finditer(text) if context.is_announced(text, found.start())]
    end = 0
    for start, stop in sorted(spans, key=lambda span: (span[0], -span[1])):
        if start >= end and not context.is_other(text, start, stop):
            yield start, stop
            end = stop


def _within(text: str, candidate: re.Match[str]) -> Iterator[Span]:
    """The phone numbers within a row of digits, by their form alone."""
    import phonenumbers  # with the tables of a plan takes a tenth of a second

    extended = EXTENDED.fullmatch(candidate[0])
    row = extended[1] if extended else candidate[0]
    for region, is_one in (("CN", _is_chinese), ("US", _is_north_american)):
        for found in phonenumbers.PhoneNumberMatcher(row, region, phonenumbers.Leniency.POSSIBLE):
            start, stop = candidate.start() + found.start, candidate.start() + found.end
            closed = text.count(")", start, stop) - text.count("(", start, stop)
            start += (text[start] == "(" and closed < 0) - (text[start - 1 : start] == "(" and closed > 0)
            raw = text[start:stop]
            if raw.startswith(("+", "(+")):
                counts = phonenumbers.is_valid_number(found.number) and len(_digits(raw)) >= FEWEST_DIGITS
            else:
                announced = context.is_announced(text, start)
                counts = is_one(raw, phonenumbers.is_valid_number(found.number), announced)
            # A part of a longer row is one only where it is written as a word of its own.
            if counts and (raw.isdigit() or not context.is_part_of_row(text, start, stop)):
                yield start, stop


def _is_chinese(raw: str, is_valid: bool, announced: bool) -> bool:
    """Mobiles, numbers with their area's code and its 0, and 400 and 800; at most the groups that people write."""
    digits = _digits(raw)
    local = digits.removeprefix("0086") if digits.startswith("0086") else digits.removeprefix("86")
    groups = re.findall(r"\d+", raw.removeprefix("00"))
    if not is_valid or any(len(group) < 3 for group in groups[1:]) or (len(groups[0]) < 3 and groups[0] != "86"):
        return False
    mobile = len(local) == 11 and local[0] == "1"
    toll_free = len(local) == 10 and local[:3] in ("400", "800")
    return mobile or toll_free or digits != local or (digits.startswith("0") and len(digits) >= 10)


def _is_north_american(raw: str, is_valid: bool, announced: bool) -> bool:
    """With its groups set apart; ten digits in a row are one where the text says that it is a phone."""
    if NORTH_AMERICAN.fullmatch(raw):
        # Those that books invent, such as 555-123-4567, are in no table.
        return is_valid or "-" in raw
    return is_valid and announced and raw.isdigit()


def _digits(raw: str) -> str:
    return "".join(filter(str.isdigit, raw))
