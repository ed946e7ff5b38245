"""What this process has in memory is nobody else's: secrets, keys, the credentials of requests.

Rules: there is no core file, and none for a program that collects them, whatever the limits are; a
process of the same user can neither attach to this one nor read its memory or its environment (root
can). What is forked inherits both. Off Linux there is no prctl: core files alone are ruled out.
"""

import ctypes
import resource
import sys

PR_SET_DUMPABLE = 4  # linux/prctl.h


def keep_private() -> bool:
    """Make it so from here on. False: the system did not let us."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform != "linux":
        return True
    failed: int = ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    return not failed
