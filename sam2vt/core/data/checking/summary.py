"""Turn the findings of a dataset into plain numbers, and these into lines of text."""

from __future__ import annotations

from collections import Counter
from statistics import median
from typing import Any

from sam2vt.core.data.checking.dataset import DatasetFindings

COLUMN = 17  # characters: where the values of the text begin, behind their names


def summarise(found: DatasetFindings) -> dict[str, Any]:
    """Return the summary that `sam2vt validate --json` prints with faults and notes."""
    videos = found.videos
    objects = [numbers for video in videos for numbers in video.objects.values()]
    num_frames = sum(video.num_frames for video in videos)
    decoded = sum(video.decoded_frames for video in videos)
    seconds = sum(video.decode_seconds for video in videos)
    return {
        "videos": len(videos),
        "stills": sum(video.is_still for video in videos),
        "frames": num_frames,
        "annotated_frames": sum(video.num_annotated for video in videos),
        "sizes": dict(Counter(f"{video.width}x{video.height}" for video in videos).most_common()),
        "kinds": dict(Counter(video.kind for video in videos).most_common()),
        "clips": sum(video.num_clips for video in videos),
        "objects": len(objects),
        "objects_a_video": _spread([len(video.objects) for video in videos if video.objects]),
        # The largest area of each: how small an object gets depends on where it leaves the frame.
        "object_pixels": _spread([numbers.largest for numbers in objects]),
        "promptable_objects": sum(len(video.trackable) for video in videos),
        "decoded_frames": decoded,
        "decoded_frames_a_second": round(decoded / seconds, 1) if seconds else None,
        "faults": len(found.faults),
    }


def format_summary(path: str, numbers: dict[str, Any], depth: str) -> list[str]:
    """Return one line per number, without objects if no mask was read."""
    if not numbers["videos"]:
        return [path, "  no video that can be read"]
    # A dataset whose videos all have faults has no frame to divide by.
    share = 100 * numbers["annotated_frames"] / max(numbers["frames"], 1)
    speed = numbers["decoded_frames_a_second"]
    lines = {
        "videos": f"{_sources(numbers)} ({_counts(numbers['kinds'])}; {_counts(numbers['sizes'])})",
        "frames": f"{numbers['frames']}, {numbers['annotated_frames']} annotated ({share:.0f}%)",
        "clips": _clips(numbers),
        "decoding": f"{numbers['decoded_frames']} of {numbers['frames']} frames"
        + (f", {speed} frames/s a process, without resizing" if speed else ""),
    }
    if depth != "headers":
        lines["objects"] = (
            f"{numbers['objects']} ({_range(numbers['objects_a_video'])} a video), "
            f"{numbers['promptable_objects']} can be prompted and tracked"
        )
        lines["object pixels"] = f"{_range(numbers['object_pixels'])}, where each is largest"
    return [path, *(f"  {name}".ljust(COLUMN) + text for name, text in lines.items())]


def _sources(numbers: dict[str, Any]) -> str:
    stills, videos = numbers["stills"], numbers["videos"]
    if stills == videos:
        return f"{stills} stills"
    return f"{videos}, {stills} of them stills" if stills else str(videos)


def _clips(numbers: dict[str, Any]) -> str:
    """Return the number of clips; a still gives any number of them."""
    stills, moving = numbers["stills"], numbers["clips"] - numbers["stills"]
    of_videos = [f"{moving} windows that hold an annotated frame"] if moving or not stills else []
    of_stills = ["any number of each still, by a moving camera"] if stills else []
    return ", and ".join([*of_videos, *of_stills])


def _spread(values: list[int]) -> dict[str, float] | None:
    return {"least": min(values), "median": median(values), "most": max(values)} if values else None


def _range(spread: dict[str, float] | None) -> str:
    return f"{spread['least']} to {spread['most']}, median {spread['median']:g}" if spread else "-"


def _counts(counts: dict[str, int]) -> str:
    shown = [f"{name}: {number}" if len(counts) > 1 else name for name, number in list(counts.items())[:4]]
    return ", ".join(shown) + (", ..." if len(counts) > 4 else "")
