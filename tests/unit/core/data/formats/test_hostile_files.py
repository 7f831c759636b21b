"""Files made to harm, or that are not what their names say: refused before anything is allocated."""

from __future__ import annotations

import errno
import os
import resource
import socket
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from sam2vt.core.data.frames.images import MAX_PIXELS, image_size, open_image
from sam2vt.errors import DataError

FRAME, MASK = "JPEGImages/a/00001.jpg", "Annotations/a/00001.png"


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(
    width: int, height: int, depth: int = 8, colour: int = 0, data: bytes = b"", extra: bytes = b""
) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(data))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + pixels + chunk(b"IEND", b"")


def text_bomb() -> bytes:
    return chunk(b"zTXt", b"comment\0\0" + zlib.compress(b"\0" * 200_000_000, 9))


def put(name, content):
    def change(root):
        (root / name).write_bytes(content if isinstance(content, bytes) else content())

    return change


def animated(name, kind):
    def change(root):
        frames = [Image.fromarray(np.full((24, 32), value, np.uint8)) for value in (0, 90)]
        frames[0].save(root / name, format=kind, save_all=True, append_images=frames[1:])

    return change


def replaced(name, make):
    def change(root):
        (root / name).unlink()
        make(str(root / name))

    return change


def bind(path):
    os.chdir(os.path.dirname(path))  # the path of a socket must be short
    socket.socket(socket.AF_UNIX).bind(os.path.basename(path))


@pytest.mark.parametrize(
    ("change", "says", "remedy"),
    [
        (put(MASK, png(60_000, 60_000)), (MASK, "too large"), "Resize it"),
        (put(FRAME, png(30_000, 30_000)), (FRAME, "too large"), "Resize it"),
        (put(MASK, png(2**31 - 1, 2**31 - 1)), (MASK,), ""),
        (put(MASK, png(0, 24)), (MASK,), ""),
        (put(MASK, lambda: png(32, 24, data=b"\0" * 33 * 24, extra=text_bomb())), (MASK, "opened"), ""),
        (put(MASK, png(32, 24, data=b"\0" * 100)), (MASK, "damaged"), "again"),
        (
            put(MASK, b""),
            (MASK, "cannot be opened as an image", "the file is empty"),
            "copy or export the file",
        ),
        (put(FRAME, b""), (FRAME, "the file is empty"), "copy or export the file again"),
        (
            put(FRAME, b"<svg/>"),
            (FRAME, "cannot be opened as an image"),
            "export the file again as PNG, JPEG",
        ),
        (put(FRAME, b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), (FRAME, "cannot be opened"), ""),
        (animated(MASK, "PNG"), (MASK, "several images"), "a file of its own"),
        (animated(FRAME, "GIF"), (FRAME, "several images"), "a file of its own"),
        (replaced(MASK, os.mkfifo), (MASK, "a pipe"), "restore the file or remove it"),
        (replaced(MASK, os.mkdir), (MASK, "is a folder"), "restore the file or remove it"),
        (replaced(FRAME, lambda path: os.symlink("nowhere", path)), (FRAME, "a link to nothing"), "restore"),
        (replaced(FRAME, lambda path: os.symlink(path, path)), (FRAME,), "restore"),
    ],
)
def test_images(tree, check_bad_input, change, says, remedy):
    root = tree({"a": 3})
    change(root)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    check_bad_input(root, says, remedy)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 100_000, f"{grown} KiB were allocated"


def test_an_image_that_may_not_be_read(tree, check_bad_input, monkeypatch):
    root = tree({"a": 3})

    def refuse(path, *arguments, **keywords):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr("PIL.Image.open", refuse)
    check_bad_input(root, ("JPEGImages/a/00000.jpg", "Permission denied"), "allow your user to read it")


def test_sockets(tree, check_bad_input, monkeypatch):
    root = tree({"a": 3})
    monkeypatch.chdir(root)
    replaced(MASK, bind)(root)
    check_bad_input(root, (MASK, "socket"), "restore the file or remove it")


@pytest.mark.parametrize("name", ["data.zip", "data.tar.gz", "data.7z"])
def test_archives(tmp_path, check_bad_input, name):
    (tmp_path / name).write_bytes(b"PK\x03\x04")
    check_bad_input(tmp_path / name, (name, "is an archive"), "unpack it")


def test_a_pipe_as_data(tmp_path, check_bad_input):
    os.mkfifo(tmp_path / "data.mp4")
    check_bad_input(tmp_path / "data.mp4", ("neither a file nor a folder",), "set it to the dataset's folder")


def test_large_images_of_people_who_mean_it(tmp_path):
    """Up to the limit, where Pillow would warn."""
    side = int(MAX_PIXELS**0.5)
    (tmp_path / "a.png").write_bytes(png(side, side, depth=1))
    assert image_size(str(tmp_path / "a.png")) == (side, side)
    (tmp_path / "b.png").write_bytes(png(side + 1, side + 1, depth=1))
    with pytest.raises(DataError, match=f"it is {side + 1}x{side + 1}; allowed are {MAX_PIXELS} pixels"):
        open_image(str(tmp_path / "b.png"))
