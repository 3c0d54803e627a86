"""The keeper: fork server, parent and reaper of all vassals."""
