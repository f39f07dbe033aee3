"""aezoo's first-party plugins. They use the public API only, and come in through the same entry points as anyone's."""
