"""Texts as PostgreSQL prints them, for every type: mostly ordinary, often at the edges where code decides.

Each function draws one value from a `random.Random`, so the fuzzer and Hypothesis can share them. Values are bytes:
some are not UTF-8, and some are not what the type prints at all.
"""

from __future__ import annotations

from calendar import isleap
from typing import TYPE_CHECKING, NamedTuple

from deltaforge.model import PgType
from tests.support.tables import numeric, pg_type

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    Draw = Callable[[Random], bytes]

PIECES = (
    b"plain", b"", b'"', b"\\", b"\n", b"\t", b"\r\b\f", b"\x01", b"\x1f", b"\x7f", b"\\u001f", b"/", b"{}", b" ",
    "é漢".encode(), "😀".encode(), "\U0010ffff".encode(), b"01234567", b"abcdefghijklmnop", b"n", b"t", b"NULL", b",",
)  # fmt: skip
BROKEN = (
    b"\xff", b"\x80", b"\xf0\x9f\x98", b"\xf0\x80\x80\x80", b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80",
    b"t\0\0\0\x01x",
)  # fmt: skip
YEARS = (1, 4, 99, 1582, 1899, 1969, 1970, 1999, 2000, 2024, 2100, 9999, 10000, 294276)
LAST_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


ODD = 0.006
"""How often a value is not what its type prints."""


def integer(r: Random) -> bytes:
    edge = r.choice((0, 1, -1, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63)))
    return b"%d" % (edge if r.random() < 0.3 else r.randint(-999_999, 999_999))


def digits(r: Random, count: int) -> bytes:
    return b"%0*d" % (count, r.randrange(10**count)) if count else b""


def decimal(r: Random) -> bytes:
    """Numbers of up to 19 characters, and of just over them."""
    count = r.choice((1, 2, 3, 5, 9, 17, 18, 19, 20, 38))
    number = r.choice((digits(r, count), b"9" * count, b"0" * count, b"1" + b"0" * (count - 1)))
    point = r.choice((count, r.randrange(count + 1)))
    shown = number if point == count else (number[:point] or b"0") + b"." + number[point:]
    if r.random() < ODD:
        shown = r.choice((b"NaN", b"Infinity", b"", b".", b"-", b"1.", b".5", b"--1", b"1.2.3", b"1_0", b" 1", b"+1"))
    return (b"-" if r.random() < 0.3 else b"") + shown


def floating(r: Random) -> bytes:
    """Shortest digits with and without exponents."""
    count = r.randint(1, 18)
    number = r.choice((digits(r, count), b"9" * count, b"5" + b"0" * (count - 1)))
    point = r.randint(0, count)
    shown = r.choice((number, (number[:point] or b"0") + b"." + (number[point:] or b"0"), b"0.000" + number))
    if r.random() < 0.3:
        exponent = r.choice((-324, -45, -5, 7, 22, 99, 308))
        shown = number[:1] + (b"." + number[1:] if number[1:] else b"") + b"e%+03d" % exponent
    if r.random() < 0.1:
        shown = r.choice((b"NaN", b"Infinity", b"-Infinity", b"0", b"1.5e5", b"1e-400"))
    if r.random() < ODD:
        shown = r.choice((b"1e+", b"e5", b".", b"1e+9999", b"", b"-", b"0x1", b"1.2.3", b"1e+12345678901234567890"))
    return (b"-" if r.random() < 0.2 else b"") + shown


def date(r: Random) -> bytes:
    if r.random() < 0.03:
        return r.choice((b"infinity", b"-infinity"))
    if r.random() < ODD:
        never = (b"2023-02-29", b"2100-02-29", b"2024-04-31", b"2024-13-01", b"0000-01-01", b"999999999999-01-01")
        return r.choice((*never, b"1-2-3", b"-", b""))
    year, month = r.choice(YEARS), r.choice((1, 2, 2, 3, 4, 6, 9, 11, 12))
    day = r.choice((1, 15, LAST_DAYS[month - 1] + (month == 2 and isleap(year))))
    return b"%04d-%02d-%02d" % (year, month, day) + (b" BC" if r.random() < 0.1 else b"")


def time(r: Random) -> bytes:
    if r.random() < 0.05:
        return r.choice((b"24:00:00", b"23:59:60"))
    if r.random() < ODD:
        return r.choice((b"1:2:3", b"12:34", b"", b"12:34:56.1234567", b"12:34:56.", b"-1:00:00", b"12:34:56,5"))
    places = r.randint(0, 6)
    clock = b"%02d:%02d:%02d" % (r.randrange(24), r.randrange(60), r.randrange(60))
    return clock + (b"." + digits(r, places) if places else b"")


def timestamp(r: Random) -> bytes:
    if r.random() < 0.03:
        return r.choice((b"infinity", b"-infinity"))
    if r.random() < ODD:
        return r.choice((b"2024-01-01", b"2024-01-01T00:00:00", b" "))
    day, bc, _ = date(r).partition(b" BC")
    return day if b"inf" in day else day + b" " + time(r) + bc


def zoned(r: Random) -> bytes:
    day, bc, _ = timestamp(r).partition(b" BC")
    zone = r.choice((b"+05:30", b"", b"-00")) if r.random() < ODD else b"+00"
    return day if b"inf" in day else day + zone + bc


def clock_with_zone(r: Random) -> bytes:
    return time(r) + r.choice((b"+00", b"-08", b"+05:30", b"+15:59:59"))


def text(r: Random) -> bytes:
    """Short and long, with everything that JSON escapes; few are no UTF-8."""
    size = r.random()
    if size < 0.02:
        return r.choice(PIECES) * r.choice((300, 9000, 70_000 // 8))
    out = b"".join(r.choices(PIECES, k=r.randint(0, 6)))
    return out + r.choice(BROKEN) if size > 1 - ODD else out


def binary(r: Random) -> bytes:
    data = bytes(r.getrandbits(8) for _ in range(r.choice((0, 1, 2, 3, 4, 5, 16, 100))))
    shown = b"\\x" + data.hex().encode()
    if r.random() < ODD:
        return r.choice((shown + b"1", shown.upper(), b"\\x0g", b"\\X00", b"00", b"\\", b"\\xG:", b""))
    return shown


def bits(r: Random) -> bytes:
    return b"".join(r.choices((b"0", b"1"), k=r.choice((0, 1, 1, 8, 33))))


def array_of(draw: Draw) -> Draw:
    def drawn(r: Random) -> bytes:
        if r.random() < ODD:
            return r.choice((b"{", b"{{1},{2}}", b"[0:1]={1,2}", b"{1,}", b'{"', b"}{", b"{}{}", b""))
        items = []
        for _ in range(r.randint(0, 3)):
            item = draw(r).replace(b"\\", b"\\\\").replace(b'"', b'\\"')
            items.append(r.choice((b'"' + item + b'"', b"NULL")))
        return b"{" + b",".join(items) + b"}"

    return drawn


def one_of(*values: bytes, odd: tuple[bytes, ...] = (b"", b"x", b"\xff")) -> Draw:
    """One of `values`, seldom one of `odd`."""
    return lambda r: r.choice(values) if r.random() >= ODD else r.choice(odd)


class Kind(NamedTuple):
    """A column type with its type modifiers and a drawer of its values."""

    type: PgType
    modifiers: tuple[int, ...]
    draw: Draw


MOOD = PgType(90001, "mood", "e", "public", labels=("sad", "größer"))
PRICE = PgType(90002, "price", "d", "public", base=pg_type("numeric"), base_modifier=numeric(10, 2))
_ANY, _PARTS = (-1,), (-1, 0, 3, 6)
_AMOUNTS = (-1, numeric(12, 2), numeric(38, 10), numeric(5, 0), numeric(5, -2))
_ODD_SHAPES = (b"", b"(1,2", b"((1,2),(3,4))", b"(1,2),(3,4)", b"(1,2)", b"<(1,2),3>", b"(1e+999,1)")

COMMON = [
    *(Kind(pg_type(name), _ANY, integer) for name in ("int2", "int4", "int8", "oid")),
    *(Kind(pg_type(name), _ANY, text) for name in ("text", "varchar", "bpchar", "json", "jsonb", "xml")),
    Kind(pg_type("bool"), _ANY, one_of(b"t", b"f")),
    Kind(pg_type("numeric"), _AMOUNTS, decimal),
    Kind(pg_type("float4"), _ANY, floating), Kind(pg_type("float8"), _ANY, floating),
    Kind(pg_type("date"), _ANY, date), Kind(pg_type("time"), _PARTS, time),
    Kind(pg_type("timestamp"), _PARTS, timestamp), Kind(pg_type("timestamptz"), _PARTS, zoned),
    Kind(pg_type("bytea"), _ANY, binary),
    Kind(pg_type("uuid"), _ANY, one_of(b"6f1c1f0e-1111-4222-8333-444455556666")),
]  # fmt: skip
"""What the compiled code writes by itself."""

RARE = [
    Kind(pg_type("timetz"), _PARTS, clock_with_zone),
    Kind(pg_type("interval"), _ANY, one_of(b"1 year 2 mons 3 days 04:05:06.789", b"-00:00:01", b"1 day")),
    Kind(pg_type("inet"), _ANY, one_of(b"::1", b"10.0.0.1/8")), Kind(pg_type("name"), _ANY, text),
    Kind(pg_type("bit"), (1, 8), bits), Kind(pg_type("varbit"), (-1, 1, 8), bits),
    Kind(pg_type("tsquery"), _ANY, one_of(b"'a' & 'b'")), Kind(PgType(90009, "pair", "c", "public"), _ANY, text),
    Kind(PgType(790, "money"), _ANY, one_of(b"$1,234.11", b"-$0.01", b"($1.00)", b"$9")),
    Kind(PgType(600, "point"), _ANY, one_of(b"(1,2)", b"(1.5,-2e+20)", odd=_ODD_SHAPES)),
    Kind(PgType(603, "box"), _ANY, one_of(b"(1,2),(3,4)", odd=_ODD_SHAPES)),
    Kind(PgType(602, "path"), _ANY, one_of(b"((1,2),(3,4))", b"[(1,2),(3,4)]", odd=_ODD_SHAPES)),
    Kind(PgType(718, "circle"), _ANY, one_of(b"<(1,2),3>", odd=_ODD_SHAPES)),
    Kind(
        PgType(90004, "hstore", "b", "public"),
        _ANY,
        one_of(b'"a"=>"1", "b"=>NULL', b"", odd=(b'"a"=>', b'"\xf0"=>"x"')),
    ),
    Kind(PgType(90005, "vector", "b", "public"), _ANY, one_of(b"[1,2.5]", odd=(b"[]", b"[x]", b"1"))),
    Kind(PgType(90006, "sparsevec", "b", "public"), _ANY, one_of(b"{1:1.5,3:2}/5", b"{}/5", odd=(b"{1:1}/99999",))),
    Kind(PgType(90007, "geometry", "b", "public"), _ANY, one_of(b"0101000000" + b"00" * 16)),
    Kind(PgType(90008, "citext", "b", "public"), _ANY, text),
    Kind(MOOD, _ANY, text), Kind(PRICE, _ANY, decimal),
    Kind(pg_type("int4[]"), _ANY, array_of(integer)), Kind(pg_type("text[]"), _ANY, array_of(text)),
    Kind(pg_type("numeric[]"), _AMOUNTS, array_of(decimal)), Kind(pg_type("date[]"), _ANY, array_of(date)),
    Kind(pg_type("bytea[]"), _ANY, array_of(binary)), Kind(pg_type("timestamptz[]"), _PARTS, array_of(zoned)),
    Kind(PgType(90003, "_mood", "b", "public", element=MOOD), _ANY, array_of(text)),
    Kind(PgType(90010, "_price", "b", "public", element=PRICE), _ANY, array_of(decimal)),
]  # fmt: skip
"""What it leaves to Python."""

TYPES = {kind.type.oid: kind.type for kind in (*COMMON, *RARE)}
