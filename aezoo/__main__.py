"""``python -m aezoo`` is ``aezoo``."""

from aezoo.cli import main

if __name__ == "__main__":
    main()
