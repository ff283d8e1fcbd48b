"""The algorithm as Grand Challenge runs it: sockets and their handlers, the log, signals."""
