"""Other people's data sets, imported into a data folder."""
