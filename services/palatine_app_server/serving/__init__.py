"""What a worker does: connections, requests, responses, the app and static files."""
