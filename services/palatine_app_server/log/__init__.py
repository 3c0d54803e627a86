"""Log lines: their formats, where they go, and the request log."""
