"""What the bytes of a video file say about its length, before a decoder makes something of them.

A decoder shows what it finds: of a file that was cut short, the frames that came before the cut. So a file is asked
first how long it means to be. An MP4 is a row of boxes, Matroska (WebM, too) one large segment, AVI a RIFF chunk, and a
GIF a row of blocks; each has its length in front of it.
"""

import struct
from pathlib import Path
from typing import BinaryIO

BOXES = b"ftyp moov mdat free skip wide udta meta uuid moof mfra sidx ssix styp prft pdin emsg pnot".split()
MATROSKA, SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"  # the file's first element, and its one large one
IN_SEGMENT = "114d9b74 1549a966 1654ae6b 1f43b675 1c53bb6b 1941a469 1043a770 1254c367"  # the kinds of its elements,
IN_CLUSTER = "e7 5854 a7 ab a3 a0 af ec bf"  # and of those in its clusters, as hexadecimal numbers
GIF, CONTROL = b"GIF8", b"!\xf9\4\0\0\0\0\0"  # a control block that asks for nothing
PLAYED_AT_ONCE, PLAYED_AS = 1, 10  # browsers show a GIF's picture that stays up to 1/100 s for 10/100 s


class VideoError(ValueError):
    """A file that is no whole video. `reason` is short and the same for all such files, `path` is the file."""

    def __init__(self, reason: str, path: str | Path, detail: object = ""):
        """`detail` is for the message alone."""
        super().__init__(f"{path}: {reason}" + (f" ({detail})" if detail else ""))
        self.reason, self.path = reason, Path(path)


def cut_short(path: str | Path) -> bool:
    """Whether a file ends before its own structure does; False for a file that is none of these, or does not say."""
    size = Path(path).stat().st_size
    with open(path, "rb") as file:
        head = file.read(4096)
        if head[:4] == GIF:
            try:
                whole_gif(head + file.read(), path)
            except VideoError as error:
                return error.reason == "truncated"
        elif head[4:8] in BOXES:
            return mp4_length(file, size) > size
        elif head[:4] == b"RIFF":
            return int.from_bytes(head[4:8], "little") + 8 > size
        elif head[:4] == MATROSKA:
            return matroska_length(file, size) > size
    return False


def mp4_length(file: BinaryIO, size: int) -> int:
    """Where the last box of an MP4 ends. In front of each: 4 bytes of length (1: in 8 more bytes; 0: to the end), type.

    What is no known box has been appended by somebody, and does not count; nor does another file, which begins with
    "ftyp".
    """
    end, seen = 0, set()
    while end + 8 <= size:
        file.seek(end)
        length, kind = struct.unpack(">I4s", file.read(8))
        if kind not in BOXES or (kind == b"ftyp" and seen):
            return end
        seen.add(kind)
        if length == 1:
            length = int.from_bytes(file.read(8), "big")
        if length < 8:
            return size if length == 0 else end
        end += length
    return end if seen & {b"moov", b"meta"} else size + 1  # the box that explains the others often comes last


def matroska_length(file: BinaryIO, size: int) -> int:
    """Where the segment of a Matroska file ends. In front of each element: its kind, then its length.

    The length of a segment may be left open, as in what a browser records. Then its elements are gone through, and
    those of its clusters, whose lengths may be open, too; what is no known element has been appended by somebody.
    """

    def number(at: int) -> tuple[int | None, int]:  # its value, and where it ends: as many zero bits as bytes more
        file.seek(at)
        data = file.read(8)
        count = 9 - data[:1].ljust(1, b"\1")[0].bit_length()
        value = int.from_bytes(data[:count].ljust(count, b"\0"), "big") - (1 << 7 * count)
        return (None if value == (1 << 7 * count) - 1 else value), at + count  # all ones: open

    length, end = number(4)
    end += length or 0
    kinds, inside = [SEGMENT], [bytes.fromhex(each) for each in f"{IN_SEGMENT} {IN_CLUSTER}".split()]
    while end < size:
        _, start = number(end)
        file.seek(end)
        kind = file.read(start - end)
        if kind not in kinds:
            return size + 1 if any(each.startswith(kind) for each in kinds) else end
        length, start = number(start)
        if kind == SEGMENT and length is not None:
            return start + length
        kinds, end = inside, start + (length or 0)
    return end


def whole_gif(data: bytes, path: str | Path) -> tuple[bytes, list[int]]:
    """A GIF as FFmpeg reads all of it, and for how many 1/100 s each of its pictures stays.

    FFmpeg tells pictures apart by the control blocks in front of them, which may be missing; so each picture gets one.
    The ";" at the end may be missing, too, and what comes behind it is left out.

    Raises:
        VideoError: "truncated" if it ends within a picture or before one; "broken" if something else stands where a
            block begins, or it has no picture.
    """

    def table(flags: int) -> int:  # bytes of the colour table
        return 3 * 2 ** (flags % 8 + 1) if flags & 128 else 0

    def after_parts(at: int) -> int:  # parts of up to 255 bytes, each with its length before it; 0 ends them
        while at < len(data) and data[at]:
            at += 1 + data[at]
        return at + 1

    data, at = data.ljust(13, b"\0"), 13 + table(data[10] if len(data) > 10 else 0)
    parts, stays, control = [data[:at]], [], b""
    while at < len(data) and data[at] != ord(";"):
        start, kind = at, data[at : at + 1]
        if kind == b"!":
            at = after_parts(at + 2)
        elif kind == b",":
            at = after_parts(at + 10 + table(data[at + 9] if at + 9 < len(data) else 0) + 1)
        else:  # zeros to the end: a file that was never filled
            what = "broken" if data[at:].strip(b"\0") else "truncated"
            raise VideoError(what, path, f"byte {at} begins no block of a GIF")
        if data[start : start + 2] == CONTROL[:2]:
            control = data[start:at]  # for the next picture
            continue
        if kind == b",":
            stay = int.from_bytes(control[4:6], "little")
            stays.append(stay if stay > PLAYED_AT_ONCE else PLAYED_AS)
            parts.append(control or CONTROL)
            control = b""
        parts.append(data[start:at])
    if at > len(data) or (at == len(data) and (control or not stays)):
        raise VideoError("truncated", path, "it ends before its own structure does")
    if not stays:
        raise VideoError("broken", path, "it has no picture")
    return b"".join(parts) + b";", stays
