"""Builds the stack's images: Debian bookworm, on which each pool's Ansible role is run."""
