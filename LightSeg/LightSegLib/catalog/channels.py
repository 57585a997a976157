"""Which image is which channel of a model, by what people call them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import takewhile

T1, T1CE = {"t1", "t1w", "t1n"}, {"t1ce", "t1gd", "t1c", "t1wce", "t1post"}  # what channels are also called
T2, FLAIR = {"t2", "t2w"}, {"flair", "t2flair", "t2f", "darkfluid"}
SYNONYMS = (T1, T1CE, T2, FLAIR, {"mri", "mr"})
OTHER_MODALITY = "OT"  # DICOM's word for a modality that is not known or not one alone
CONTRAST = {"gd", "ce", "post", "contrast", "km", "+c"}  # words that make a T1 one with contrast agent

# Words in the names of images that have another contrast, although the names have T1, T2 or FLAIR in them, too.
OTHER = {"t2star", "swi", "swan", "tir", "tirm", "stir", "t1flair", "map", "maps", "mapping", "mapit"}
OTHER |= {"dwi", "adc", "subtraction"}


def matched(channels: Sequence[str], names: Sequence[str]) -> list[int | None]:
    """Return, for each channel, the position of the only name that means it alone, else None.

    What all of several names begin with is the case or the study, such as MAP-001: it does not make an image one of
    another contrast. Where it is called like a channel itself, such as T2-007, it counts unless the rest of the names
    has all channels, and a name of two contrasts means none.
    """
    words = [_words(name) for name in names]
    modalities: set[str] = set().union(*SYNONYMS, *(_names(_spelled(channel)) for channel in channels))
    columns = zip(*words, strict=False) if len(names) > 1 else ()  # the first words of all names, the second ones, ...
    common = [column[0] for column in takewhile(lambda column: len(set(column)) == 1, columns)]
    start = len([*takewhile(lambda word: word not in modalities, common)])
    of_rest = _positions([own[len(common) :] for own in words], channels)
    if None not in of_rest:
        return of_rest
    rests = [own[start:] for own in words]
    if _has_contrast(common[:start]) and not any(_has_contrast(rest) or T1CE.intersection(rest) for rest in rests):
        rests = [[word for word in rest if word not in T1] for rest in rests]  # T1 with contrast agent or without it
    return _positions(rests, channels)


def _positions(words: Sequence[list[str]], channels: Sequence[str]) -> list[int | None]:
    """Return, for each channel, which list of words is the only one that means it; None where none or several do."""
    spoken = [_channel_of(own, channels) for own in words]
    return [spoken.index(channel) if spoken.count(channel) == 1 else None for channel in channels]


def is_called(channel: str, name: str) -> bool:
    """Return whether a channel is what a name in lower case means, or a synonym of it."""
    return name in _names(channel.lower())


def _channel_of(words: list[str], channels: Sequence[str]) -> str | None:
    """Return the channel with the longest synonym in the words of a name, so that "T1 CE" does not count as T1.

    An image of another contrast, such as T2*, means none, unless a channel is called so; nor does one of two contrasts.
    """
    known = {channel: _names(_spelled(channel)) for channel in channels}
    other = OTHER.intersection(words + _pairs(words)).difference(*known.values())
    if "darkfluid" in _pairs(words) and "t1" not in words:
        other -= {"tir", "tirm"}  # t2_tirm_dark-fluid is FLAIR
    if other:
        return None
    if _has_contrast(words):
        words = ["t1ce" if word in ("t1", "t1w") else word for word in words]
    words = words + _pairs(words)
    if _is_of_two_contrasts(words):
        return None
    found = [(len(word), channel) for channel in channels for word in known[channel] if word in words]
    longest = {channel for length, channel in found if length == max(found)[0]}
    return longest.pop() if len(longest) == 1 else None


def _has_contrast(words: Sequence[str]) -> bool:
    """Return whether words speak of a contrast agent."""
    return any(word in CONTRAST or word.startswith("gad") for word in words)


def _is_of_two_contrasts(words: Sequence[str]) -> bool:
    """Return whether words are those of two contrasts, beyond the T2 in T2 FLAIR and the T1 in T1 CE."""
    t1, t1ce, t2, flair = (not names.isdisjoint(words) for names in (T1, T1CE, T2, FLAIR))
    return (t1 or t1ce) + (t2 or flair) > 1


def _words(name: str) -> list[str]:
    """Return the words of a name in lower case."""
    return re.findall(r"[a-z]+\d*[a-z]*|\d+|[+]c\b", _spelled(name))


def _spelled(name: str) -> str:
    """Return a name in lower case, with the star of T2* and FLAIR* as letters of the word."""
    return re.sub(r"(?<=t2)w?[\W_]*?(\*|star(?![a-z]))|(?<=[a-z0-9])\*", "star", name.lower())


def _pairs(words: Sequence[str]) -> list[str]:
    """Return each word joined to the next."""
    return [first + second for first, second in zip(words, words[1:], strict=False)]


def _names(channel: str) -> set[str]:
    """Return all names of a channel."""
    return next((names for names in SYNONYMS if channel in names), {channel})
