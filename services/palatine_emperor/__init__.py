"""Vassals from files, databases and queues: the emperor daemon."""
