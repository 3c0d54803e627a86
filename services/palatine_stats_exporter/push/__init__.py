"""Sends what instances count to databases and collectors; never slows a scrape, never asks an app."""
