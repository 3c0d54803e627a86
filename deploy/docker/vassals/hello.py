import os


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"hello from a vassal, pid {os.getpid()}\n".encode()]
