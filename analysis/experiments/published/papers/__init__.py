"""Papers whose numbers are computed again, a module each, or for several on one subject."""
