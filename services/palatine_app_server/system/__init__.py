"""Kernel and plumbing: sockets, the event loop and its parts, channels, directories, titles."""
