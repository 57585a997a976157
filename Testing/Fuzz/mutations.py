"""How an input is spoiled: bytes anywhere, words of a text, values of a JSON tree, fields of a binary header.

Each function takes what is to be spoiled and a random generator, and returns a spoiled copy; equal seeds spoil equally.
"""

from __future__ import annotations

import copy
import json
import math
import re
import struct
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

WORDS = (
    *("0", "-1", "1", "2", "3", "4", "7", "255", "65535", "4294967296", "99999999999999999999", "1e308", "-1e308"),
    *("1e-308", "1e-320", "0.0", "-0.5", "nan", "inf", "-inf", "0x10", "1,5", "\u0661", "", " ", "abc", "true", "none"),
    *(
        "LOCAL",
        "LIST",
        "raw",
        "gzip",
        "bzip2",
        "hex",
        "zlib",
        "/dev/zero",
        "../../outside",
        "a\\b",
        "\x1b[31m",
        "\u202e",
    ),
    *("MET_DOUBLE", "MET_UCHAR", "MET_STRING", "short", "float", "block", "double", "uint8", "little", "big", "left"),
    *("a" * 300, "9" * 5000, "\u00fc", "\ud800", "\x00", "=1+1", "CON", "..", "%s%n", "[*]", "None", "NaN", "Infinity"),
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 3, 255, 256, 32767, 32768, 65536, 2**31, 2**32, 2**63, 10**30, -(10**30)),
    *(0.0, -0.0, 0.5, 1.5, -1.5, 1e-30, 1e-308, 1e30, 1e308, -1e308, math.nan, math.inf, -math.inf),
    *(
        "",
        "x",
        "0",
        "1",
        "a" * 300,
        "a" * 5000,
        "\ud800",
        "\x00",
        "\x1b[2J",
        "../x",
        "/etc/passwd",
        "a\nb",
        "CON",
        "[",
        "*",
    ),
    *([], {}, [[]], [None], [0], [1, 2, 3], [-1, -1, -1], [1e308] * 3, ["x"], {"": 0}, {"x": {}}, [[0, 1], [2]]),
)
NUMBERS = tuple(
    struct.pack(order + form, value)
    for order in "<>"
    for form, values in (
        ("h", (0, -1, 1, 2, 4, 7, 8, 16, 64, 128, 255, 256, 512, 1536, 2304, 32767, -32768)),
        ("i", (0, -1, 1, 3, 348, 540, 2**31 - 1, -(2**31))),
        ("q", (0, -1, 1, 2**31, 2**32, 2**63 - 1, -(2**63))),
        ("f", (0, -1, 1e-45, 1e-6, 0.5, 1e38, -1e38, math.nan, math.inf, -math.inf)),
        ("d", (0, -1, 1e-320, 1e308, math.nan, math.inf)),
    )
    for value in values
)
DEEP = 200_000  # levels of nested JSON: more than any parser that calls itself can take


def spoiled_bytes(data: bytes, random: Random, low: int = 0, high: int | None = None) -> bytes:
    """Bits, bytes, numbers, blocks and the length of `data`, between two places of it."""
    spoiled = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 4, 8))):
        end = min(len(spoiled), len(data) if high is None else high)
        if end <= low:
            break
        place = random.randrange(low, end)
        kind = random.randrange(8)
        if kind < 2:
            spoiled[place] ^= 1 << random.randrange(8)
        elif kind == 2:
            spoiled[place] = random.choice((0, 0xFF, 0x7F, 0x80, random.randrange(256)))
        elif kind < 5:
            number = random.choice(NUMBERS)
            spoiled[place : place + len(number)] = number
        elif kind == 5:
            del spoiled[place : place + random.choice((1, 2, 4, 16, 100, 1000))]
        elif kind == 6:
            start = random.randrange(low, end)
            spoiled[place:place] = spoiled[start : min(end, start + random.choice((1, 4, 16, 100, 1000)))]
        else:
            del spoiled[place:]
    return bytes(spoiled)


def spoiled_numbers(data: bytes, random: Random, places: Sequence[int]) -> bytes:
    """Numbers at places of a header that have a meaning."""
    spoiled = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        place, number = random.choice(places), random.choice(NUMBERS)
        spoiled[place : place + len(number)] = number
    return bytes(spoiled)


def spoiled_text(data: bytes, random: Random, end: int | None = None) -> bytes:
    """Words and lines of the text with which `data` begins, up to `end`."""
    text, rest = data[:end], b"" if end is None else data[end:]
    for _ in range(random.choice((1, 1, 2, 3))):
        words = [found.span() for found in re.finditer(rb"[^\s=:(),;\"]+", text)]
        lines = text.split(b"\n")
        kind = random.randrange(6)
        if kind < 3 and words:
            start, stop = random.choice(words)
            word = random.choice(WORDS).encode("utf-8", "surrogatepass")
            text = text[:start] + word + text[stop:]
        elif kind == 3:
            del lines[random.randrange(len(lines))]
            text = b"\n".join(lines)
        elif kind == 4:
            lines.insert(random.randrange(len(lines) + 1), random.choice(lines))
            text = b"\n".join(lines)
        else:
            text = spoiled_bytes(text, random)
    return text + rest


def spoiled_json(value: Any, random: Random) -> bytes:
    """A tree with other values at some of its places, as a file; now and then one that is not a JSON."""
    kind = random.randrange(20)
    if kind == 0:
        return spoiled_text(json.dumps(value, indent=1).encode(), random)
    if kind == 1:
        return spoiled_bytes(json.dumps(value).encode(), random)
    if kind == 2:
        opening, closing = random.choice((("[", "]"), ('{"a":', "}")))
        levels = random.choice((90, 110, 900, 2000, DEEP))
        deep = opening * levels + ("1" if opening != "[" else "") + closing * levels
        return json.dumps(_changed(value, random, "\ue000")).replace('"\\ue000"', deep).encode()
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        value = _changed(value, random, random.choice(VALUES))
    digits = random.choice((400, 4000, 5000)) if kind == 3 else 0
    text = json.dumps(value)
    if digits:  # more digits than Python turns into a number
        text = re.sub(r"\b\d+\b", "9" * digits, text, count=1)
    return text.encode("utf-8", "surrogatepass")


def _changed(value: Any, random: Random, new: Any) -> Any:
    """A copy of a tree in which something is `new`, gone, doubled, renamed or taken from elsewhere."""
    value = copy.deepcopy(value)
    places = list(_places(value))
    if not places:
        return new
    holder, key = random.choice(places)
    kind = random.randrange(8)
    if new == "\ue000" or kind < 4:
        holder[key] = new
    elif kind == 4:
        del holder[key]
    elif kind == 5:
        other, name = random.choice(places)
        holder[key] = copy.deepcopy(other[name])
    elif isinstance(holder, dict):
        holder[random.choice(("", "x", "a" * 300, "\ud800", "\x1b", "0", "-1", str(new)[:20]))] = holder.pop(key)
    else:
        holder[key:key] = [holder[key]] * random.choice((1, 2, 100))
    return value


def _places(value: Any) -> Any:
    """(dict or list, key) of everything within."""
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from _places(value[key])


def one_of(random: Random, *ways: Callable[[], bytes]) -> bytes:
    """What one of the ways to spoil gives."""
    return random.choice(ways)()
