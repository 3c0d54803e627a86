"""The master and what it looks after: zygotes, workers, attached daemons, reloads, harakiri."""
