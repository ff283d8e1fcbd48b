"""The model as the platform runs it: sockets and their handlers, the log, signals."""
