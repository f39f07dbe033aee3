"""Trackers: what listens to the events of a bench."""
