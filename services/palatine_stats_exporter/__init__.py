"""Stats documents, metrics and the dashboard: the stats-exporter daemon."""
