import time


def application(env, start_response):
    start_response("200 OK", [("Content-Type", "text/html")])
    time.sleep(0.25)  # sleep 250 msec
    return [b"Hello World"]
