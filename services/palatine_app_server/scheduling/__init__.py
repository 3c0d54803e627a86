"""What is done by the clock or when a file changes."""
