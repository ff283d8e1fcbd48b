"""Networks of which only a part is trained: low-rank factors or the last blocks on a frozen base."""
