"""Importing data sets of other formats: one module per format in `formats`."""
