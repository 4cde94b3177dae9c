"""A real OpenStack on one machine, in a root file system and namespaces of its own."""
