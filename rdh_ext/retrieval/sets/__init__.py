"""Codes and labels on disk: the format, its reader and writer, and files of other programs."""
