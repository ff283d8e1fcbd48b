"""Keep freed memory in the process, so that the next layer reuses it.

By default glibc returns every large block to the system at once; the next layer gets it back page by page and cleared.
This costs a sixth of a forward pass of EfficientViT-L2 on a CPU (docs/adr/0009).
"""

import ctypes
import os

# From glibc's malloc.h. Large blocks come from the heap, of which up to 2 GiB of free memory are kept.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
LARGEST_INT = 2**31 - 1


def keep_freed_memory() -> None:
    """Keep freed memory, in huge pages if the system allows them. Call it before torch computes anything."""
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch reads it at its first allocation
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_MAX, 0)
    libc.mallopt(M_TRIM_THRESHOLD, LARGEST_INT)
