"""What a config asks of an instance, as frozen values: read and checked before anything is bound."""
