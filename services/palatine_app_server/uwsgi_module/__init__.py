"""What the `uwsgi` module offers, by subject: each module gives functions by the names apps call them."""
