"""What the records of a run say: in numbers, in rows, side by side, in text."""
