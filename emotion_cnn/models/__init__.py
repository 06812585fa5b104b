"""Architectures, the builder, saving and loading."""
