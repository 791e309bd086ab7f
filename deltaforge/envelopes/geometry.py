"""PostgreSQL's geometric types and PostGIS's, with their shapes as well-known binary (WKB), little-endian.

Rule 1: a shape is `{"wkb":..,"srid":null,"extensions":{"type":"box"}}`; what WKB cannot say (a path may be closed)
        stands in the extensions. A circle and a line have no WKB and are written as their numbers.
Rule 2: rings are closed: a polygon's first point stands again at its end.
Rule 3: PostGIS prints extended WKB in hex, which is written as it is; only its spatial reference id is read.
Rule 4: where a NOT NULL column has no value, a small valid shape stands, not an empty one.
"""

from __future__ import annotations

import re
import struct
from binascii import unhexlify
from functools import partial
from typing import TypeAlias

from deltaforge.envelopes.binary import base64
from deltaforge.envelopes.numbers import double
from deltaforge.envelopes.renderings import Rendering, no_default

Point: TypeAlias = tuple[str, str]
"""x and y as PostgreSQL prints them."""

_LINE_STRING, _POLYGON = 2, 3
_HAS_SRID = 0x20000000
_NUMBER = r"(-?(?:\d+(?:\.\d+)?(?:e[+-]?\d+)?|Infinity|NaN))"
_POINT = re.compile(rf"\({_NUMBER},{_NUMBER}\)")
_CIRCLE = re.compile(rf"<\({_NUMBER},{_NUMBER}\),{_NUMBER}>\Z")
_LINE = re.compile(rf"\{{{_NUMBER},{_NUMBER},{_NUMBER}\}}\Z")


def _points(text: str) -> list[Point]:
    found: list[Point] = _POINT.findall(text)
    if not found or ",".join(f"({x},{y})" for x, y in found) != text:
        raise ValueError("not a list of points")
    return found


def _inside(text: str, brackets: str) -> list[Point]:
    if text[:1] + text[-1:] != brackets:
        raise ValueError("a shape has other brackets")
    return _points(text[1:-1])


def _two(points: list[Point]) -> list[Point]:
    if len(points) != 2:
        raise ValueError("a shape of two points has another number of them")
    return points


def _wkb(shape: int, points: list[Point]) -> str:
    head = struct.pack("<BI", 1, shape) + (struct.pack("<I", 1) if shape == _POLYGON else b"")
    body = b"".join(struct.pack("<dd", float(x), float(y)) for x, y in points)
    return base64(head + struct.pack("<I", len(points)) + body)


def _shape(shape: int, points: list[Point], kind: str, more: str = "") -> str:
    return f'{{"wkb":{_wkb(shape, points)},"srid":null,"extensions":{{"type":"{kind}"{more}}}}}'


def _point(x: str, y: str) -> str:
    wkb = base64(struct.pack("<BIdd", 1, 1, float(x), float(y)))
    return f'{{"x":{double(x)},"y":{double(y)},"wkb":{wkb},"srid":null}}'


def point(text: str) -> str:
    """`(x,y)`. This and the next raise ValueError for text of another form."""
    found = _points(text)
    if len(found) != 1:
        raise ValueError("not a point")
    return _point(*found[0])


def box(text: str) -> str:
    """`(x,y),(x,y)`, two opposite corners: a ring of all four, from the first one up or down."""
    (x1, y1), (x2, y2) = _two(_points(text))
    return _shape(_POLYGON, [(x1, y1), (x1, y2), (x2, y2), (x2, y1), (x1, y1)], "box")


def segment(text: str) -> str:
    """`[(x,y),(x,y)]`"""
    return _shape(_LINE_STRING, _two(_inside(text, "[]")), "lseg")


def path(text: str) -> str:
    """`((x,y),..)` when closed, `[(x,y),..]` when open."""
    closed = text.startswith("(")
    points = _inside(text, "()" if closed else "[]")
    return _shape(_LINE_STRING, points, "path", f',"closed":"{"true" if closed else "false"}"')


def polygon(text: str) -> str:
    """`((x,y),..)`"""
    points = _inside(text, "()")
    if len(points) > 1 and list(map(float, points[0])) != list(map(float, points[-1])):
        points.append(points[0])
    return _shape(_POLYGON, points, "polygon")


def circle(text: str) -> str:
    """`<(x,y),r>`"""
    if not (match := _CIRCLE.match(text)):
        raise ValueError("not a circle")
    return f'{{"center":{_point(match[1], match[2])},"radius":{double(match[3])}}}'


def line(text: str) -> str:
    """`{A,B,C}` of Ax + By + C = 0."""
    if not (match := _LINE.match(text)):
        raise ValueError("not a line")
    return f'{{"a":{double(match[1])},"b":{double(match[2])},"c":{double(match[3])}}}'


def _postgis(text: str, more: str) -> str:
    data = unhexlify(text)
    if len(data) < 9:
        raise ValueError("extended WKB is cut short")
    order = "<" if data[0] else ">"
    kind, srid = struct.unpack_from(order + "Ii", data, 1)
    return f'{{"wkb":{base64(data)},"srid":{srid if kind & _HAS_SRID else "null"}{more}}}'


geometry = partial(_postgis, more=',"extensions":null')
"""PostGIS's `geometry`. Raises ValueError for text that is not extended WKB."""
geography = partial(_postgis, more="")
"""PostGIS's `geography`, whose struct has no extensions."""

_EMPTY_COLLECTION = "010700000000000000"
_SEGMENT: list[Point] = [("0", "0"), ("1", "0")]

BY_OID = {
    600: Rendering(point, _point("0", "0"), printed=no_default),
    601: Rendering(segment, _shape(_LINE_STRING, _SEGMENT, "lseg"), printed=no_default),
    602: Rendering(path, _shape(_LINE_STRING, _SEGMENT, "path"), printed=no_default),
    603: Rendering(box, box("(0,0),(1,1)"), printed=no_default),
    604: Rendering(polygon, polygon("((0,0),(1,0),(0,1))"), printed=no_default),
    628: Rendering(line, line("{0,1,0}"), printed=no_default),
    718: Rendering(circle, circle("<(0,0),0>"), printed=no_default),
}
"""point, lseg, path, box, polygon, line, circle."""

BY_NAME = {
    "geometry": Rendering(geometry, geometry(_EMPTY_COLLECTION), printed=no_default),
    "geography": Rendering(geography, geography(_EMPTY_COLLECTION), printed=no_default),
}
"""PostGIS's types, which have an oid of their own in every database."""
