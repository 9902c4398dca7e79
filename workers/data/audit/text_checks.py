"""What must not stand in a row's text: blanks of a template, personal data.

Each look begins with a plain substring search, which costs next to nothing on the many clean rows.
"""

from __future__ import annotations

import ipaddress
import re

_BLANK = re.compile(
    r"(?<![\\\w^_}$])(?:\{\{-?\s*[A-Za-z_][\w.]{2,}(?:\[[^]]*\])*(?:\s*\|[^}]*)?\s*-?\}\}"
    r"|\{(?:input|instruction|output|prompt|question|answer|response|context|messages|system|user"
    r"|completion|query)\})"
    r"|\{%-?\s*(?:for|if|elif|else|endfor|endif|set|macro|endmacro|generation|endgeneration)\b"
    r"[^%]*%\}"
)
_FENCE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)


def placeholder(text: str) -> str | None:
    """A blank of a template that nobody filled in, outside code: `{{messages}}`, `{input}`."""
    if "{" not in text:
        return None
    found = _BLANK.search(text)
    if found and "`" in text:
        found = _BLANK.search(_FENCE.sub(" ", text))
    return found[0] if found else None


_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,24}\b")
_RESERVED = re.compile(r"(?:^|[@.])(?:example\.(?:com|org|net)|[\w-]+\.(?:example|test|invalid))$")
"""Names that belong to nobody (RFC 2606)."""
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
_CARD = re.compile(
    r"(?<![\d.,+*/=-])(?<!\d )"
    r"(?:\d{4}([ -])\d{4}\1\d{4}\1\d{4}|3[47]\d{2}([ -])\d{6}\2\d{5}|\d{15,16})"
    r"(?![\d+*/=-])(?! [\d+*/=-])"
)
_CARD_CUE = re.compile(r"\b(?:card|visa|mastercard|amex|american express|karte)\b", re.IGNORECASE)
_ISSUERS = re.compile(r"4|5[1-5]|2[2-7]|3[47]|6(?:011|5)")
_ADDRESS = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.]*\d)")
_WORLD_PHONE = re.compile(
    r"(?<![\w)=+*/-])(?<!\d )\+[1-9]\d{0,2}(?:[ ./-]?\(?\d{1,4}\)?){2,6}(?![\d=])"
)
_US_PHONE = re.compile(
    r"(?<![\w+*/=.-])(?:\([2-9]\d{2}\) ?|[2-9]\d{2}-)[2-9]\d{2}-\d{4}(?![\w+*/-]|\s*[=+*/])"
)
_NAMED_PHONE = re.compile(
    r"\b(?:tel|telephone|phone|mobile|cell|fax|telefon|mobil|call (?:me|us|him|her))\b"
    r"[^\d\n]{0,16}\(?\+?\d(?:[ ()./-]{0,2}\d){6,14}(?!\d)",
    re.IGNORECASE,
)
"""A number of any country behind a word for it."""
_LONG_NUMBER = re.compile(r"\d(?:[ ().\-/]{0,2}\d){6}|\b[A-Z]{2}\d{2} ?[A-Z0-9]{4}|\d\.\d{1,3}\.\d")
LEAST_DIGITS = 4
"""Fewer make no number of a person; an IPv4 address has four."""


def personal_data(text: str, digits: int | None = None) -> str | None:
    """The kind of personal data that a text holds, or None.

    Numbers must prove what they are: a card by Luhn's check (ISO/IEC 7812) and its issuer, an IBAN
    by its remainder and its country's form (ISO 13616), an address by being a public one, a phone
    number by its country's numbering plan or by a word before it. Patterns find what may be one,
    python-stdnum and phonenumbers decide; each takes 60 ms to import, which clean rows do not pay.

    Args:
        digits: how many digits the text has, where that is known.
    """
    if "@" in text and any(not _RESERVED.search(found[0]) for found in _EMAIL.finditer(text)):
        return "an e-mail address"
    if (digits is not None and digits < LEAST_DIGITS) or not _LONG_NUMBER.search(text):
        return None
    if any(_is_iban(found[0]) for found in _IBAN.finditer(text)):
        return "an IBAN"
    if any(_is_card(found, text) for found in _CARD.finditer(text)):
        return "a card number"
    if any(_is_address(found, text) for found in _ADDRESS.finditer(text)):
        return "an IP address"
    return "a phone number" if _holds_phone(text) else None


def _is_iban(found: str) -> bool:
    from stdnum import iban

    return iban.is_valid(found)


def _is_card(found: re.Match[str], text: str) -> bool:
    from stdnum import luhn

    number = re.sub(r"\D", "", found[0])
    if not _ISSUERS.match(number) or len(set(number)) < 4:
        return False
    bare = number == found[0]
    if bare and not _CARD_CUE.search(text, max(0, found.start() - 60), found.start()):
        return False  # one long number in ten passes the check below by chance
    return luhn.is_valid(number)


def _is_address(found: re.Match[str], text: str) -> bool:
    before = text[max(0, found.start() - 12) : found.start()].lower()
    if re.search(r"(?:version|release|section|chapter|v\.?|§)\s*$", before):
        return False
    try:
        return ipaddress.IPv4Address(found[0]).is_global and found[0] not in _RESOLVERS
    except ValueError:
        return False


_RESOLVERS = {"8.8.8.8", "8.8.4.4", "1.1.1.1", "1.0.0.1", "9.9.9.9"}
"""Public name servers: everybody's addresses."""


def _holds_phone(text: str) -> bool:
    return (
        _NAMED_PHONE.search(text) is not None
        or any(_is_phone(found[0], None) for found in _WORLD_PHONE.finditer(text))
        or any(_is_phone(found[0], "US") for found in _US_PHONE.finditer(text))
    )


def _is_phone(found: str, region: str | None) -> bool:
    """Whether a country gives out such numbers; without a region the number names its own."""
    import phonenumbers

    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(found, region))
    except phonenumbers.NumberParseException:
        return False
