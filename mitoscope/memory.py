"""How this process holds memory: what was freed is kept for the next layer or step.

By default glibc returns every large block to the system at once and then requests it again, page by page and cleared:
a sixth of a forward pass of EfficientViT-L2 on a CPU (docs/adr/0009).
"""

import ctypes
import os

# From glibc's malloc.h. Large blocks come from the heap. Its end is not returned below 2 GiB, and it grows by 64 MiB.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -4, -8
LARGEST_INT = 2**31 - 1
GROWTH_BYTES = 64 << 20


def keep_freed_memory() -> None:
    """Keep freed memory, in huge pages where the system grants them. Call it before torch computes anything."""
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch reads it at its first allocation
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_MAX, 0)
    libc.mallopt(M_TRIM_THRESHOLD, LARGEST_INT)
    libc.mallopt(M_TOP_PAD, GROWTH_BYTES)
    libc.mallopt(M_ARENA_MAX, 1)  # the threads of `mitoscope.slide.workers` keep what they free in the same heap
