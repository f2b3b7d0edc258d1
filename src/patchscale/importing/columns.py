"""Which column of an export is which, by the names that vendors give them."""

import re
import unicodedata
from collections.abc import Sequence

NAMES = {
    "date": "date datetime time timestamp day tradedate data datum fecha gmttime",
    "open": "open openprice opening otwarcie eroffn eroffnung eroffnungskurs "
    "ouverture erster apertura pxopen",
    "high": "high highprice hoch hochst hochstkurs tageshoch najwyzszy haut plushaut max maximo "
    "pxhigh",
    "low": "low lowprice tief tiefst tiefstkurs tagestief najnizszy bas plusbas min minimo pxlow",
    "close": "close closelast closeprice closing last lastprice zamkniecie schluss schlusskurs "
    "zuletzt cloture dernier clot cierre vixcls pxlast",
    "volume": "volume vol wolumen volumen stucke umsatz volumes tradedvolume pxvolume",
    "dividends": "dividends dividend divcash dividendamount cashdividend",
    "splits": "stocksplits splits split splitfactor splitcoefficient splitratio",
    "adjusted close": "adjclose adjustedclose adjusted closeadjusted adjcloseprice",
    "other adjusted price": "adjopen adjhigh adjlow adjustedopen adjustedhigh adjustedlow",
}
"""Names of each column, without accents, spaces and signs, in small letters."""
ROLES = {name: role for role, names in NAMES.items() for name in names.split()}
SECOND_CHOICE = {
    "price": "close",
    "kurs": "close",
    "value": "close",
    "timestamp": "date",
    "time": "date",
}
"""Names that count only where no other column has the role."""


def role_of(header: str) -> str | None:
    """Return the role of a column, None where its name is unknown.

    What stands before the last point, such as a symbol or a number, is left out where the whole
    name is unknown.
    """
    for text in (header, header.rpartition(".")[2]):
        if role := ROLES.get(_plain(text)):
            return role
    return None


def roles_of(header: Sequence[str]) -> list[str | None]:
    """Return the role of each column of a header, None for those that are not used."""
    roles = [role_of(name) for name in header]
    for number, name in enumerate(header):
        role = SECOND_CHOICE.get(_plain(name))
        if role is None:
            continue
        if roles.count(role) > 1 and roles[number] == role:
            roles[number] = None  # another column is the date, and this one a time stamp
        elif role not in roles:
            roles[number] = role
    if "date" not in roles and roles and roles[0] is None:
        roles[0] = "date"  # the index of a table, which has no name
    return roles


def _plain(name: str) -> str:
    letters = unicodedata.normalize("NFKD", name.casefold().replace("ł", "l"))
    return re.sub(r"[^a-z]", "", letters)
