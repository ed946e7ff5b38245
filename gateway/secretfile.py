"""Secrets that lie in files of their own.

Whoever may read such a file has the secret. So it is a regular file that others than its owner and
its group can't read, and that nobody but its owner can write: `chmod 600`, or 640 for a service's
group. Links are followed, as Kubernetes mounts its secrets.
"""

import os
import stat
from pathlib import Path

MAX_BYTES = 4096
FORBIDDEN_MODE = stat.S_IWGRP | stat.S_IRWXO


def read_secret(path: Path) -> str:
    """The text in the file, without blanks around it.

    Raises ValueError with the rest of a sentence that begins with the field's name; it never holds
    what the file holds.
    """
    try:
        # Whoever puts a pipe there would else have this wait for its other end.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no such name can be"
        raise ValueError(f"can't be read: {reason.lower()}") from None
    try:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise ValueError("must be a regular file")
        if state.st_mode & FORBIDDEN_MODE:
            raise ValueError(
                f"can be read or changed by others (mode {stat.S_IMODE(state.st_mode):04o}); "
                "`chmod 600` it"
            )
        content = os.read(descriptor, MAX_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(content) > MAX_BYTES:
        raise ValueError(f"has more than {MAX_BYTES} bytes: that is no secret")
    try:
        return content.decode("ascii").strip()
    except UnicodeDecodeError:
        raise ValueError("must hold ASCII text alone") from None
