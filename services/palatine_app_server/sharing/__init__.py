"""What all processes of an instance share besides the segment: caches, queues, areas, metrics, signals, spools."""
