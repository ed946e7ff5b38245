"""Whether a file is the one that was read: told by what changes with its content."""

from pathlib import Path

FileState = tuple[int, int, int] | None


def file_state(path: Path) -> FileState:
    """Changes when the file is written or replaced; None: it can't be found."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
