"""Mules and spoolers, from their fork to their end."""
