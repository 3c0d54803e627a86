"""WSGI apps under a master: the app-server daemon."""
