"""The role ``conference-demo``: Janus and the page for browsers, behind nginx."""
