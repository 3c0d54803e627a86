"""What happens before the first request: locks, waits, limits, jails, rights, hooks."""
