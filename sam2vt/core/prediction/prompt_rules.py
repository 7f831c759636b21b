"""Find prompts that contradict themselves, each other, or their video."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence

from sam2vt.core.prediction.types import ObjectPrompt

# (whether a prompt is at fault, what is wrong and what is allowed); {0} is the prompt.
_RULES: tuple[tuple[Callable[[ObjectPrompt], bool], str], ...] = (
    (
        lambda each: not each.clicks and each.box is None and each.mask is None,
        "shows nothing; give points, a box or a mask",
    ),
    (
        lambda each: each.mask is not None and bool(each.clicks or each.box),
        "has a mask beside points or a box; a mask says it all: allowed is either",
    ),
    (
        lambda each: each.mask is not None and not each.mask.any(),
        "mask: is empty; allowed is a mask of at least one pixel: leave the prompt out",
    ),
    (
        lambda each: each.box is not None and not (each.box[0] < each.box[2] and each.box[1] < each.box[3]),
        "box: {0.box} has no area; allowed is x0, y0, x1, y1 with x0 < x1 and y0 < y1",
    ),
    (
        lambda each: are_shares([*(v for click in each.clicks for v in click[:2]), *(each.box or ())]),
        "is between 0 and 1 in all its numbers, as in shares of the frame; allowed are pixels: multiply x by "
        "the frame's width, and y by its height",
    ),
    (
        lambda each: bool(_pixels(each, True) & _pixels(each, False)),
        "points: a positive and a negative click are on one pixel; leave one of them out",
    ),
    (
        lambda each: each.corrects and (each.mask is not None or each.box is not None or not each.clicks),
        "correct: a correction is made of points alone; to show the object anew, leave correct out",
    ),
    (
        lambda each: bool(
            each.clicks and not each.corrects and not each.box and not any(c.is_positive for c in each.clicks)
        ),
        "points: all are negative; allowed is at least one positive click, or a box beside them",
    ),
)


def prompt_faults(prompt: ObjectPrompt) -> Iterator[str]:
    """Yield the faults of one prompt that do not depend on its video."""
    yield from (text.format(prompt) for is_wrong, text in _RULES if is_wrong(prompt))


def object_faults(prompts: Sequence[ObjectPrompt], remove_at: int | None = None) -> Iterator[tuple[int, str]]:
    """Yield (frame, fault) where prompts of one object contradict each other."""
    counts = Counter(each.frame for each in prompts)
    for frame in sorted(each for each, count in counts.items() if count > 1):
        yield frame, "is prompted twice for one object; write points and box of a frame into one prompt"
    shown = [each.frame for each in prompts if not each.corrects]
    first = min(shown, default=None)
    for each in prompts:
        if each.corrects and (first is None or each.frame < first):
            what = "no prompt is before it" if first is None else f"its first prompt is on frame {first}"
            yield each.frame, f"corrects an object that is not shown yet, {what}; leave correct out"
        if remove_at is not None and each.frame >= remove_at:
            yield (
                each.frame,
                f"is prompted, but the object is removed at frame {remove_at}; allowed is a later "
                "remove_at, or another object for what comes after it",
            )


def frame_faults(prompt: ObjectPrompt, height: int, width: int, num_frames: int | None) -> Iterator[str]:
    """Yield the faults of a prompt that does not fit its video; `num_frames` is None if unknown."""
    if num_frames is not None and prompt.frame >= num_frames:
        yield f"is not in the video, which has {num_frames} frames; allowed is 0 to {num_frames - 1}"
    inside = f"allowed is x from 0 {{}} {width}, y from 0 {{}} {height} (pixels of the source, upright)"
    for_point, for_box = inside.format("to below", "to below"), inside.format("to", "to")
    for place, (x, y, _) in enumerate(prompt.clicks):
        if not (0 <= x < width and 0 <= y < height):
            yield f"points[{place}]: ({x:g}, {y:g}) is outside the frame of {width}x{height}; {for_point}"
    if prompt.box is not None:
        x0, y0, x1, y1 = prompt.box
        if min(x0, y0) < 0 or x1 > width or y1 > height:
            shown = ", ".join(f"{each:g}" for each in prompt.box)
            yield f"box: ({shown}) is not within the frame of {width}x{height}; {for_box}"
    if prompt.mask is not None and prompt.mask.shape != (height, width):
        own = f"{prompt.mask.shape[1]}x{prompt.mask.shape[0]}"
        yield f"mask: is {own} (width x height), its frame is {width}x{height}; draw it on these"


def are_shares(values: Collection[float]) -> bool:
    """Return whether coordinates seem to be in shares of the frame: as pixels, all were in its first one."""
    return bool(values) and all(0 <= each <= 1 for each in values) and any(each % 1 for each in values)


def _pixels(prompt: ObjectPrompt, is_positive: bool) -> set[tuple[int, int]]:
    return {(int(x), int(y)) for x, y, sign in prompt.clicks if sign is is_positive}
