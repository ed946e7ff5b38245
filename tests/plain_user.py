"""`python plain_user.py ARGUMENTS` is `python ARGUMENTS`, by one who has no rights but a user's.

For root that means: without capabilities, as a service has none. Others have none to lose.
"""

import ctypes
import os
import sys

PR_CAPBSET_DROP = 24  # linux/prctl.h; what is dropped is gone with the next program
LAST_CAPABILITY = 63

if __name__ == "__main__":
    for capability in range(LAST_CAPABILITY + 1):
        ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
