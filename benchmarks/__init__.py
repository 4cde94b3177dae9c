"""Figures of the project; each module is a program with ``--help``."""
