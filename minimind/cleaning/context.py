"""What stands around a row of digits: whether a phone is announced, or it is an amount, a key, part of an address."""

import re

_REACH = 48  # characters that are looked at on either side

# What announces a phone, up to a few signs before it: `Tel.: `, `"phone": "`, `电话（`.
_ANNOUNCED = re.compile(
    r"(?:(?<![a-z])(?:tele?|(?:tele|cell|smart)?phones?(?:[ _-]?(?:number|no\.?))?|mobile|cell|fax|hotline|whatsapp|"
    r"call(?: (?:me|us))?(?: (?:at|on))?|dial|ring|sms|text (?:me|us)(?: at)?|wa\.me)|"
    r"电话(?:号码?)?|手机(?:号码?)?|联系方式|热线|传真|座机|致电|拨打|来电|短信至?)[^\w\n+]{0,4}(?:\+\s?)?\(?\Z",
    re.IGNORECASE,
)
# What announces another number: a key, an amount, an operand.
_NUMBERED = re.compile(
    r"(?:(?<![a-z])(?:id|[a-z]*_id|uid|pid|isbn|issn|doi|sku|rfc|order|item|invoice|ticket|serial|timestamp|"
    r"(?:order |serial |item )?(?:no\.?|number))|编号|订单号?|单号|序号|流水号|货号|型号|条码|卡号|时间戳|#|№)"
    r"[^\w\n]{0,4}\Z|"
    r"(?:[$¥￥€£₹]|(?<![a-z])(?:rmb|usd|cny|eur|gbp|hkd)|价格|售价|金额|总额|总计|共计|合计|大约|约|超过|达到?|高达)"
    r"[为是:：]?\s{0,2}\Z|"
    r"(?:[=*×÷^<≤≥√%]|(?<![\w\"'/])>)\s?\Z|[\w)]\s?\+\s?\Z",
    re.IGNORECASE,
)
_COUNTED = re.compile(
    r"\s?(?:元(?!旦)|块|人民币|美元|美金|日元|欧元|韩元|英镑|港元|港币|卢布|卢比|円|亿|万|个(?!人)|次(?!日)|吨|字节|比特|毫秒|秒|"
    r"人次|人口|人(?!\w)|公里|千米|米|克|千克|公斤|股|条|票|倍|年(?!中|底|度)|[%‰*×÷^=>]|<(?![a-z/])|\+ ?\d| [+-] )|"
    r"\s?(?:yuan|rmb|cny|usd|eur|dollars?|euros?|pounds?|bytes?|bits?|[kmgt]i?b|people|users|times|tokens?|param\w*|"
    r"years?|seconds?|ms|km|kg|tons?|rows?|lines?)\b",
    re.IGNORECASE,
)
_TOKEN = re.compile(r"[\w.~:/?#@!$&*+,;=%-]*\Z", re.ASCII)  # of an address, up to the number
_FILE = re.compile(r"\.[a-z][a-z0-9]{1,4}\b|/[a-z]|[?&#][a-z]")


def is_announced(text: str, start: int) -> bool:
    """Whether the words just before say that a phone number follows."""
    return _ANNOUNCED.search(text[max(0, start - _REACH) : start]) is not None


def is_other(text: str, start: int, stop: int) -> bool:
    """Whether the surroundings say that digits in the form of a phone number are none."""
    before, after = text[max(0, start - _REACH) : start], text[stop : stop + _REACH]
    if _COUNTED.match(after) or re.match(r"\d|\.\d|[A-Za-z_]", after) or _FILE.match(after):
        return True
    if is_announced(text, start):
        return False
    if re.search(r"[\w.][.]\Z|[A-Za-z0-9_]\Z|[A-Za-z]-\Z|(?:\A|[\s([,:=])-\Z", before) or _NUMBERED.search(before):
        return True
    if re.fullmatch(r"1\d{4,}?0{6,}", text[start:stop]):
        return True  # a round amount
    token = _TOKEN.search(before)
    assert token is not None
    return "/" in token[0] and re.search("[A-Za-z]", token[0]) is not None


def is_part_of_row(text: str, start: int, stop: int) -> bool:
    """Whether further digits stand before or after, with a blank, a point or a hyphen between.

    An extension of up to five digits behind a Chinese landline, 010-62751234-801, is no such digits.
    """
    if re.search(r"\d[- .]\Z", text[max(0, start - 2) : start]):
        return True
    after = text[stop : stop + _REACH]
    return re.match(r"[- .]\d", after) is not None and not (
        text.startswith(("0", "(0", "+86"), start) and re.match(r"-\d{1,5}(?![\w-])", after)
    )
