"""The modules that our attention models are built from; each works in any network."""
