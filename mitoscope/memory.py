"""How this process holds memory: what a layer has freed is kept for the next one.

By default glibc gives every large block back to the system at once, and takes it page by page, cleared, for the next
layer's outcome: a sixth of a forward pass of EfficientViT-L2 on a CPU (docs/adr/0009).
"""

import ctypes
import os

# From glibc's malloc.h. Large blocks come from the heap, whose end is not given back below 2 GiB.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
LARGEST_INT = 2**31 - 1


def keep_freed_memory() -> None:
    """Keep freed memory, in huge pages where the system grants them. To be called before torch computes anything."""
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch reads it at its first allocation
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_MAX, 0)
    libc.mallopt(M_TRIM_THRESHOLD, LARGEST_INT)
