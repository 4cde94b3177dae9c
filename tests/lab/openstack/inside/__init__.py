"""What runs in the lab's own root file system, by Debian's Python and its standard library alone."""
