"""Kamailio: the proxy between the world and the gateways."""
