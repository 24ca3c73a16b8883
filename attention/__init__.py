"""The modules of the attention models; each works in any network."""
