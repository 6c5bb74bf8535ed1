"""Pipe directories of files and CSVs through async transforms."""
