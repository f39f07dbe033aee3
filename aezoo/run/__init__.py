"""What is written down of a run, and how it is written and read."""
