"""`money`: a decimal with as many fraction digits as money.fraction.digits says.

PostgreSQL prints it by lc_monetary; what is understood is a number with commas between thousands and a point, with a
currency sign in front, negative by a leading minus or by parentheses: `$1,234.11`, `-$1.00`, `($1.00)`.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

from deltaforge.envelopes.numbers import decimal, decimal_double, decimal_string, rescaled
from deltaforge.envelopes.renderings import Rendering, no_default

if TYPE_CHECKING:
    from deltaforge.envelopes.options import ValueOptions

_MONEY = re.compile(r"(-|\()?[^\d.,()-]*(\d[\d,]*(?:\.\d+)?)(\))?\Z")


def amount(text: str) -> str:
    """The plain number. Raises ValueError for text that is no money in such a locale."""
    match = _MONEY.match(text)
    if not match or (match[1] == "(") != bool(match[3]):
        raise ValueError("not an amount of money")
    return ("-" if match[1] else "") + match[2].replace(",", "")


def _precise(text: str, digits: int) -> str:
    return decimal(rescaled(amount(text), digits))


def _string(text: str) -> str:
    return decimal_string(amount(text))


def _double(text: str) -> str:
    return decimal_double(amount(text))


def money_rendering(options: ValueOptions) -> Rendering:
    """`money`."""
    if options.decimal == "string":
        return Rendering(_string, f'"{rescaled("0", options.money_digits)}"', printed=no_default)
    if options.decimal == "double":
        return Rendering(_double, "0.0", printed=no_default)
    return Rendering(partial(_precise, digits=options.money_digits), '"AA=="', printed=no_default)
