"""Personal data: the patterns by which it is found, and the checks that tell it from other numbers.

Each kind has a gate, a rough pattern for Daft's regular expressions that finds the rows worth looking at,
and a pattern with a check for Python, which knows what may stand beside.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """One kind of personal data: how people call it, and how it is found.

    What the group `before` of the pattern holds, if it has one, is no part of what is found.
    """

    name: str
    gate: str
    pattern: re.Pattern[str]
    check: Callable[[str], bool] = bool

    def sub(self, text: str, put: Callable[[str], str]) -> tuple[str, int]:
        """The text with `put(found)` for each that is found and passes the check, and how many did."""
        count = 0

        def change(found: re.Match[str]) -> str:
            nonlocal count
            before = found.groupdict().get("before") or ""
            it = found[0][len(before):]
            if not self.check(it):
                return found[0]
            count += 1
            return before + put(it)

        return self.pattern.sub(change, text), count


def _digits(text: str) -> str:
    return re.sub(r"\D", "", text)


ISSUERS = re.compile(
    r"4\d{15}(?:\d{3})?|(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}|3[47]\d{13}"
    r"|(?:6011|65\d\d|64[4-9]\d)\d{12}|3(?:0[0-5]|[68]\d)\d{11}|35(?:2[89]|[3-8]\d)\d{12}|62\d{14}"
    r"|(?:50|5[6-9]|6[37])\d{14}")
"""Beginnings and lengths of the numbers that card issuers have in use."""


def is_card(found: str) -> bool:
    """Whether an issuer's numbers look so, and Luhn's check digit is right (ISO/IEC 7812)."""
    number = _digits(found)
    if not ISSUERS.fullmatch(number) or len(set(number)) < 2:
        return False
    doubled = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(number))]
    return sum(value - 9 * (value > 9) for value in doubled) % 10 == 0


IBANS = {15: "NO", 16: "BE", 18: "DK FI FK FO GL NL SD", 19: "MK SI", 20: "AT BA EE KZ LT LU MN XK", 21: "CH HR LI LV",
         22: "BG BH CR DE GB GE IE ME RS VA", 23: "AE GI IL IQ OM SO TL", 24: "AD CZ ES MD PK RO SA SE SK TN VG",
         25: "LY PT ST", 26: "IS TR", 27: "BI DJ FR GR IT MC MR SM", 28: "AL AZ BY CY DO GT HN HU LB NI PL SV",
         29: "BR EG PS QA UA", 30: "JO KW MU YE", 31: "MT SC", 32: "LC", 33: "RU"}
"""The countries whose account numbers have so many characters."""


def is_iban(found: str) -> bool:
    """Whether the two check digits are right: the number modulo 97 is 1 (ISO 13616)."""
    number = re.sub(r"[ -]", "", found)
    return int("".join(str(int(sign, 36)) for sign in number[4:] + number[:4])) % 97 == 1


def is_public_ip(found: str) -> bool:
    """Whether it is an address that may be somebody's: of no local network, and of no document's example."""
    try:
        address = ipaddress.ip_address(found)
    except ValueError:
        return False
    return address.is_global and (address.version == 4 or int(address) >> 125 == 1)     # 2000::/3: all given out


def is_phone(found: str) -> bool:
    """Whether it has as many digits as a number that can be called (ITU-T E.164), and is no date."""
    return 7 <= len(_digits(found)) <= 15 and not DATE.search(found)


DATE = re.compile(r"\b(?:1[5-9]|20)\d\d[-./ ](?:0?[1-9]|1[0-2])[-./ ]\d{1,2}\b"
                  r"|\b\d{1,2}[-./]\d{1,2}[-./](?:1[5-9]|20)\d\d")


def is_key(found: str) -> bool:
    """Whether it may be random: letters and digits, or a block that says what it is."""
    return "PRIVATE KEY" in found or (bool(re.search(r"\d", found)) and bool(re.search("[A-Za-z]", found)))


KEYS = (
    r"-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----[\s\S]{0,20000}?(?:-----END [A-Z ]*PRIVATE KEY(?: BLOCK)?-----|\Z)",
    r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",                                                   # Amazon
    r"\bgh[pousr]_[A-Za-z0-9]{36,255}|\bgithub_pat_\w{22,255}|\bglpat-[\w-]{20,255}",   # GitHub, GitLab
    r"\bxox[abeoprs]-[A-Za-z0-9-]{10,255}|\bSG\.[\w-]{22}\.[\w-]{43}",                  # Slack, SendGrid
    r"\b[spr]k_(?:live|test)_[A-Za-z0-9]{16,255}|\bAIza[\w-]{35}",                      # Stripe, Google
    r"\bsk-[A-Za-z0-9][\w-]{19,255}|\bhf_[A-Za-z0-9]{30,255}",                          # language models
    r"\bnpm_[A-Za-z0-9]{36}\b|\bpypi-[\w-]{50,1000}|\b\d{8,10}:AA[\w-]{33}\b",          # npm, PyPI, Telegram
    r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}",                                      # JSON Web Tokens (RFC 7519)
    r"(?P<before>(?i:pass(?:word|wd|phrase)|secret|api[_-]?key|(?:access|auth)[_-]?token)[\"']?\s{0,9}(?:=|:|=>)\s{0,9}"
    r"[\"'])[^\s\"']{8,255}(?=[\"'])",
)
WAYS = "Street|Avenue|Road|Boulevard|Lane|Drive|Court|Square|Terrace|Parkway|Highway|Crescent|Way|Place"
SHORT_WAYS = r"(?:St|Ave|Rd|Blvd|Ln|Dr|Ct|Sq|Pkwy|Hwy)(?:\.|(?=,|\s*$))"

KINDS = {
    "key": Kind(
        "key or token",
        r"PRIVATE KEY|AKIA|ASIA|gh[pousr]_|github_pat_|glpat-|xox[abeoprs]-|SG\.[A-Za-z0-9_-]{20}|k_(?:live|test)_|AIza"
        r"|sk-[A-Za-z0-9]|hf_[A-Za-z0-9]{20}|npm_|pypi-|[0-9]:AA|eyJ|(?i:pass(?:word|wd|phrase)|secret|api[_-]?key|token)[\"']?"
        r"\s{0,9}[:=]", re.compile("|".join(KEYS)), is_key),
    "email": Kind(
        "e-mail address", r"[A-Za-z0-9]@[A-Za-z0-9-]+\.[A-Za-z]",
        re.compile(r"(?<![\w.+%-])[\w.+%-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![A-Za-z0-9])")),
    "iban": Kind(
        "IBAN", "[A-Z]{2}[0-9]{2}[ -]?[A-Z0-9]{4}",
        re.compile(r"(?<!\w)(?:" + "|".join(
            rf"(?:{'|'.join(countries.split())})\d\d(?:[ -]?[A-Z0-9]){{{size - 4}}}"
            for size, countries in IBANS.items()) + r")(?![A-Za-z0-9])"), is_iban),
    "card": Kind(
        "card number", "[0-9]{14}|[0-9]{4}[ -][0-9]{4}[ -][0-9]{4}|[0-9]{4}[ -][0-9]{6}[ -][0-9]{4}",
        re.compile(r"(?<![\w.,-])(?:\d{14,19}|\d{4}(?:[ -]\d{4}){3}(?:[ -]\d{3})?|\d{4}[ -]\d{6}[ -]\d{4,5})"
                   r"(?![\w-]|[.,]\d)"), is_card),
    "ip": Kind(
        "IP address", r"[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]|[0-9A-Fa-f]{1,4}:[0-9A-Fa-f]{0,4}:",
        re.compile(r"(?<![\w.])(?<!ersion )(?:\d{1,3}\.){3}\d{1,3}(?!\w|\.\d)"
                   r"|(?<![\w:.])(?:[0-9A-Fa-f]{1,4}:){1,7}(?::|[0-9A-Fa-f]{1,4})(?::?[0-9A-Fa-f]{1,4}){0,6}(?![\w:])"),
        is_public_ip),
    "phone": Kind(
        "phone number",
        r"\+[0-9]|[0-9]{3}\)?[ .-]{0,2}[0-9]{3}[ .-][0-9]{4}|0[0-9]{1,5}[ /-][0-9]{3}"
        r"|(?i:tel|phone|mobile|cell|fax|call)[^\s0-9]{0,7}\s{0,2}[(]?[0-9][0-9 ().-]{5}",
        re.compile(r"(?<![\w.,+/-])(?:\+\d[\d ().-]{6,20}\d"
                   r"|(?:1[ .-])?(?:\([2-9]\d\d\) ?|[2-9]\d\d[ .-])[2-9]\d\d[ .-]\d{4}"
                   r"|0\d{1,5}[ /-]\d{3,4}(?:[ -]\d{2,4}){1,3}|0\d{2,5}[ /-]\d{5,9}"
                   r"|(?P<before>(?i:tel|phone|mobile|cell|fax|call)[^\s\d(]{0,7}\s{0,2})\(?\d[\d ().-]{5,16}\d)"
                   r"(?![\w-]|[.,]\d)"), is_phone),
    "address": Kind(
        "street address",
        rf"[0-9][A-Za-z]?,? [A-Z].{{0,60}}\b(?:{WAYS}|St|Ave|Rd|Blvd|Ln|Dr|Ct|Sq|Pkwy|Hwy)\b"
        r"|(?:straße|strasse|str\.|weg|platz|allee|gasse) [0-9]"
        r"|[0-9](?:bis|ter)?,? (?:rue|avenue|boulevard|place|chemin) ",
        re.compile(r"(?m)\b\d{1,5}[A-Za-z]?,? (?:[NSEW]\.? )?(?:[A-Z][A-Za-z'’.-]+ ){1,4}"
                   rf"(?:(?:{WAYS})\b|{SHORT_WAYS})"
                   r"(?:,? (?:Apt|Suite|Unit|Flat|#)\.? ?\w{1,5})?"
                   r"(?:,? [A-Z][A-Za-z. -]{1,30},? [A-Z]{2} \d{5}(?:-\d{4})?)?"
                   r"|\b[A-ZÄÖÜ][a-zäöüß-]+(?: ?[Ss]traße| ?[Ss]trasse| ?[Ss]tr\.|weg|platz|allee|gasse)"
                   r" \d{1,4}[a-z]?\b(?:,? \d{5} [A-ZÄÖÜ][\wäöüß-]+)?"
                   r"|\b\d{1,4}(?:bis|ter)?,? (?:rue|avenue|boulevard|place|chemin) (?:d(?:e|u|es|e la) |[dl]['’])?"
                   r"[A-ZÉÈ][\w'’-]+(?: [A-ZÉÈ][\w'’-]+){0,3}(?:,? \d{5} [A-ZÉÈ][\w'’-]+)?")),
}
"""In the order in which they are sought: what may hold others comes first."""
