"""Where the video files of a table of clips are: below which folder, and with which ending."""

import os
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath

from .file_structure import VideoError

ENDINGS = (".mp4", ".gif", ".mov", ".m4v", ".mkv", ".webm", ".avi")  # of several files of one name, the first of these


class ClipFiles:
    """The video files below some folders; of files in several of them, that in the first."""

    def __init__(self, folders: Sequence[Path]):
        """`folders` need not be there."""
        self.folders, self.listed = list(folders), {}

    def __str__(self) -> str:
        return f"{' and '.join(map(str, self.folders))} for {', '.join(ENDINGS)}"

    def find(self, page_dir: str, videoid: str) -> Path:
        """The file of a row, or a `VideoError`: a table may come from anywhere, and must not reach outside.

        Endings may be in capitals, as cameras write them, and the videoid may have the ending already.
        """
        for part in (page_dir, videoid):
            inside = PureWindowsPath(part)  # knows both kinds of slash
            if inside.root or Path(part).anchor or ".." in inside.parts:
                raise VideoError("path leaves the folder", part)
        stem, ending = os.path.splitext(videoid)
        names = [*([(stem, ending.lower())] if ending.lower() in ENDINGS else []), *((videoid, e) for e in ENDINGS)]
        for folder in self.folders:
            for name, ending in names:
                path = folder / page_dir / name
                found = self.files_in(path.parent).get((path.name, ending))
                if found:
                    return found
        raise VideoError("not there", self.folders[0] / page_dir / f"{videoid}.mp4")

    def files_in(self, folder: Path) -> dict[tuple[str, str], Path]:
        """The files of a folder by stem and ending, the ending in small letters; looked up once."""
        if folder not in self.listed:
            try:
                files = sorted(path for path in folder.iterdir() if path.is_file())
            except (OSError, ValueError):  # not there, or a name that no folder can have
                files = []
            self.listed[folder] = {(path.stem, path.suffix.lower()): path for path in files}
        return self.listed[folder]
