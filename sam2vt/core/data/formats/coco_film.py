"""The video file of a COCO JSON whose frames were never extracted: CVAT exports JSONs without images."""

from __future__ import annotations

import os
from collections.abc import Sequence

from sam2vt.core.data.formats.coco_json import CocoJson, JsonObject, check_stated_size
from sam2vt.core.data.formats.listing import VIDEO_EXTENSIONS, files_in, last_number, some, stem
from sam2vt.core.data.formats.paths import with_slashes
from sam2vt.core.data.frames.video import VideoProbe, probe_video
from sam2vt.errors import DataError, located


def find_film(json: CocoJson, name: str, is_only: bool) -> VideoProbe | None:
    """Return the video file of images that do not exist, such as `name`; None where nothing tells which.

    It is named as the images' folder, or the only file of the JSON's only video (`is_only`). It is where
    images are looked for, or in the folder above annotations/.
    """
    above = os.path.dirname(os.path.abspath(json.path))
    if os.path.basename(above) == "annotations":
        above = os.path.dirname(above)
    folders = dict.fromkeys([*json.roots, above])
    films = [os.path.join(folder, each) for folder in folders for each in files_in(folder, VIDEO_EXTENSIONS)]
    folder = os.path.basename(os.path.dirname(with_slashes(name)))
    named = [film for film in films if folder in (os.path.basename(film), stem(os.path.basename(film)))]
    chosen = named or (films if is_only else [])
    if len(chosen) != 1:
        return None
    json.options.note(f"{json.path}: {name} does not exist; frames are read from {chosen[0]}")
    return probe_video(chosen[0])


def match_images(film: VideoProbe, images: Sequence[JsonObject], where: str) -> Sequence[int]:
    """Return the frame of the film that each image is: in order if there are as many, else by number from 0.

    Raises DataError where an image states another size, or its number is no frame of the film.
    """
    size = (film.height, film.width)
    for place, image in enumerate(images):
        with located(frame=place):
            check_stated_size(image, size, film.path, f"{where}: image {image['id']}")
    if len(images) == film.num_frames:
        return range(len(images))
    names = [stem(str(image.get("file_name") or image.get("path"))) for image in images]
    numbers = [last_number(os.path.basename(name)) for name in names]
    known = [number for number in numbers if number is not None and number < film.num_frames]
    if len(known) < len(images) or len(set(known)) < len(known):
        raise DataError(
            f"{where}: none of its {len(images)} image files exists, and {film.path} has {film.num_frames} "
            f"frames: which are meant is not clear from the names {some(names, 3)}. Allowed are an image "
            f"per frame, or numbers from 0 to {film.num_frames - 1}: extract the frames, or export them "
            "with the annotation"
        )
    return known
