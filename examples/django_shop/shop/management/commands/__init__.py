"""One command."""
