"""A stranger's files of a network, checked by us before Keras sees them."""
