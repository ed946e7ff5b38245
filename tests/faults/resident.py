"""What a process holds, as Linux tells: resident memory, open descriptors, socket buffers."""

import os
from pathlib import Path

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def resident_bytes_of(pid: int) -> int:
    """Resident set size; socket buffers are the kernel's and not in it. 0: it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES
    except (FileNotFoundError, ProcessLookupError):
        return 0


def descriptors_of(pid: int) -> int:
    """How many descriptors it has open. 0: it has ended."""
    try:
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except (FileNotFoundError, ProcessLookupError):
        return 0


def most_in_socket_buffers() -> int:
    """Bytes that the kernel may hold between a backend and a client with a small buffer of its own.

    The backend's send buffer, the gateway's receive buffer and its send buffer, each grown as far
    as the system lets them.
    """
    limits = Path("/proc/sys/net/ipv4")
    receive, send = (
        int((limits / name).read_text().split()[2]) for name in ("tcp_rmem", "tcp_wmem")
    )
    return receive + 2 * send
