"""Order the frames of a video by their names, in the same way in every layout."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from itertools import pairwise

from sam2vt.core.data.formats.listing import last_number, natural_key, some
from sam2vt.errors import DataError

# One point with digits on both sides: 0.04 is a number, the dots of a date or version are not.
_DECIMAL = re.compile(r"(?<![\d.])\d+\.\d+(?![\d.])")
_NUMBER = re.compile(rf"({_DECIMAL.pattern}|\d+)")
# A name that is a number: with a sign, as times around an event have, or as Python prints 0.00001.
_SIGNED = re.compile(r"[-+]?\d+(\.\d+)?(e[-+]?\d{1,3})?", re.ASCII | re.IGNORECASE)
# After letters only with a sign: s01e02 is an episode. And what names share of such a number's beginning.
_EXPONENT = r"\d+(?:\.\d+)?e[-+]\d{2,3}"
_AFTER_PREFIX = re.compile(rf"[-+]?(?:{_EXPONENT}|\d+(?:\.\d+)?)", re.ASCII | re.IGNORECASE)
_BEGUN = re.compile(r"\d+(\.\d*)?(e[-+]?\d*)?$", re.ASCII | re.IGNORECASE)
_HEXADECIMAL = re.compile(r"[0-9a-f]{1,128}", re.IGNORECASE)
_MOST_DIGITS = 640  # longer rows of digits are text, as in `natural_key`


def frame_order(stems: Sequence[str], where: str) -> list[int]:
    """Return the places of frames in the order of their names without endings: frame_2 before frame_10.

    Decimals such as times in seconds count by their value: 0.04 before 0.2. Raises DataError, which begins
    with `where`, if the names can be read in two ways that give different orders.
    """
    places = range(len(stems))
    order = sorted(places, key=lambda place: natural_key(stems[place]))
    # Most videos: a single number, which every reading sorts alike.
    if all(map(str.isdecimal, stems)):
        return order
    names = [os.path.basename(each) for each in stems]
    if all(map(_SIGNED.fullmatch, names)) and not all(each.replace(".", "").isdecimal() for each in names):
        by_value = sorted(places, key=lambda place: (Decimal(names[place]), names[place]))
        # Each of -1, -2, -3 may be a name without its beginning.
        if by_value != order and all(each[0] in "-+" for each in names):
            raise _unclear(stems, order, by_value, "by signed value", where)
        return by_value
    if numbers := _after_prefix(stems):
        by_value = sorted(places, key=lambda place: (Decimal(numbers[place]), stems[place]))
        if by_value != order and _may_be_no_values(numbers):
            raise _unclear(stems, order, by_value, "by signed value", where)
        return by_value
    if all(map(_HEXADECIMAL.fullmatch, names)) and any(each[0].isdecimal() for each in names):
        by_value = sorted(places, key=lambda place: (int(names[place], 16), names[place]))
        if by_value != order:
            raise _unclear(stems, order, by_value, "as hexadecimal numbers", where)
    if any(map(_DECIMAL.search, stems)):
        by_value = sorted(places, key=lambda place: _value_key(stems[place]))
        if by_value != order and _are_counters(stems):
            raise _unclear(stems, order, by_value, "as decimals", where)
        order = by_value
    by_last = _by_last_number(stems, order)
    if by_last != order:
        raise _unclear(stems, order, by_last, "by the last number in each name", where)
    return order


def _after_prefix(stems: Sequence[str]) -> list[str]:
    """Return the numbers between what all names begin and end with; none if no sign or exponent is in them.

    What all names have is no sign: the dashes of clip-1, clip-2 and of dates are separators.
    """
    prefix = _BEGUN.sub("", os.path.commonprefix(stems))  # noqa: RUF071  # of characters
    ending = re.split(r"\d", stems[0])[-1]
    numbers = [each.removesuffix(ending)[len(prefix) :] for each in stems if each.endswith(ending)]
    if len(numbers) < len(stems) or all(each.replace(".", "").isdecimal() for each in numbers):
        return []
    return numbers if all(map(_AFTER_PREFIX.fullmatch, numbers)) else []


def _may_be_no_values(numbers: Sequence[str]) -> bool:
    """Return whether signs may be separators, as of v1, v-2, v3, or exponents a second counter."""
    if all("e" in each.lower() and "." not in each for each in numbers):
        return True
    values = [Decimal(each) for each in numbers]
    sizes = {abs(each) for each in values}
    # No counter has a number twice, as -1 and 1.
    if min(values) >= 0 or len(sizes) < len(values):
        return False
    step = _step(values)
    return step is None or _step(sizes) not in (None, step)


def _step(values: Iterable[Decimal]) -> Decimal | None:
    """Return the distance of evenly spaced values; None for others."""
    steps = {after - before for before, after in pairwise(sorted(values))}
    return steps.pop() if len(steps) == 1 else None


def last_value(name: str) -> Decimal | None:
    """Return the last number in a name without its ending, decimals by value: 0.04 for frame_0.04."""
    numbers = _NUMBER.findall(name)
    return Decimal(numbers[-1]) if numbers and len(numbers[-1]) <= _MOST_DIGITS else None


def frame_numbers(names: Sequence[str]) -> list[int | None]:
    """Return the last number in each name without its ending; None for times and signs, as 0.04 and t-2."""
    if _after_prefix(names):
        return [None] * len(names)
    return [None if _SIGNED.fullmatch(each) and not each.isdecimal() else last_number(each) for each in names]


def numbered_frames(numbers: Sequence[int | None], num_frames: int) -> list[int] | None:
    """Return the frames of a video that have these `frame_numbers` in their names, counted from 0.

    They count from 1 if the last is the number of frames and none is 0. None if this is not clear.
    """
    known = [number for number in numbers if number is not None]
    if len(set(known)) < len(numbers):
        return None
    first = int(min(known) > 0 and max(known) == num_frames)
    return [each - first for each in known] if max(known) < num_frames + first else None


def _value_key(name: str) -> tuple[list[tuple[int, Decimal | str]], str]:
    # Numbers and text alternate; the pairs keep them from being compared with each other.
    parts = enumerate(_NUMBER.split(name))
    return [
        (0, Decimal(part)) if i % 2 and len(part) <= _MOST_DIGITS else (1, part) for i, part in parts
    ], name


def _are_counters(stems: Sequence[str]) -> bool:
    """Return whether decimals may be two counters, as in 0.9, 0.10: no program prints 0.1 like that."""
    digits = [found[0].partition(".")[2] for each in stems if (found := _DECIMAL.search(each))]
    fewest = min(map(len, digits))
    return any(len(each) > fewest and each.endswith("0") for each in digits)


def _by_last_number(stems: Sequence[str], order: list[int]) -> list[int]:
    """Return the order by the last number alone, or `order` where that number is no counter of frames.

    It is none where it repeats, where it has more gaps than numbers, as a clock's seconds that start over
    have, and where names begin with several folders.
    """
    if len({os.path.dirname(each) for each in stems}) > 1:
        return order
    last = {place: number for place in order if (number := last_value(stems[place])) is not None}
    numbers = sorted(last.values())
    if len(last) < len(order) or len(set(numbers)) < len(numbers) or len(numbers) < 2:
        return order
    step = min(after - before for before, after in pairwise(numbers))
    if numbers[-1] - numbers[0] > 2 * step * len(numbers):
        return order
    return sorted(order, key=lambda place: last[place])


def _unclear(stems: Sequence[str], one: list[int], other: list[int], how: str, where: str) -> DataError:
    differs = next(place for place, (a, b) in enumerate(zip(one, other)) if a != b)
    first, second = (some([stems[place][:60] for place in order[differs:]], 3) for order in (one, other))
    place = "continues" if differs else "begins"
    return DataError(
        f"{where}: the order of the frames is not clear: by whole names, number for number, it {place} with "
        f"{first}; {how} it {place} with {second}. Rename the frames so that both agree, such as 00000, 00001"
    )
